package intake

import "time"

// ShortenTimes makes an intake notice silence after two heartbeats of the given length.
func (i *Intake) ShortenTimes(heartbeat time.Duration) {
	i.times.heartbeat = heartbeat
	i.times.silence = heartbeat*2 + heartbeat/2
	i.times.expires = heartbeat * 10
}

// SweepEvery makes an intake scan for orphans more often.
func (i *Intake) SweepEvery(period time.Duration) { i.times.sweep = period }
