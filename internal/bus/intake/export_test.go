package intake

import (
	"context"
	"time"

	"dbrunner/internal/bus"
)

// ShortenTimes makes an intake notice silence after two heartbeats of the given length.
func (i *Intake) ShortenTimes(heartbeat time.Duration) {
	i.times.heartbeat = heartbeat
	i.times.silence = heartbeat*2 + heartbeat/2
	i.times.expires = heartbeat * 10
}

// SweepEvery makes an intake scan for orphans more often.
func (i *Intake) SweepEvery(period time.Duration) { i.times.sweep = period }

// LeaseOrphan reports whether this runner gets the lease of a message.
func LeaseOrphan(ctx context.Context, i *Intake, m *bus.StoredMessage) (bool, error) {
	lease, err := i.leaseOrphan(ctx, m, m.Time)
	return lease != nil, err
}
