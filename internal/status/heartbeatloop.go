package status

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// watchInterval is how often the states are looked at between two heartbeats: a change is reported within it.
const watchInterval = 500 * time.Millisecond

// publishHeartbeats publishes heartbeats at each interval and soon after every change, until ctx ends.
func (r *Runner) publishHeartbeats(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var own heartbeatSchedule
	each := make([]heartbeatSchedule, len(r.databases))
	for {
		if r.conn.State().Connected { // else it is reported when the link is back
			if own.due(r.stateKey(), r.cfg.Worker.HeartbeatInterval) {
				r.PublishRunner(ctx)
			}
			for i, d := range r.databases {
				if each[i].due(d.stateKey(), r.cfg.Worker.HeartbeatInterval) {
					r.publishDatabase(ctx, d)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// heartbeatSchedule is when a heartbeat was due last, and what was the news then.
type heartbeatSchedule struct {
	sent string
	at   time.Time
}

func (h *heartbeatSchedule) due(stateKey string, interval time.Duration) bool {
	if stateKey == h.sent && time.Since(h.at) < interval {
		return false
	}
	h.sent, h.at = stateKey, time.Now()
	return true
}

// stateKey is everything whose change is worth a heartbeat of the runner.
func (r *Runner) stateKey() string {
	text := r.state() + " " + strconv.FormatBool(r.duplicates.noticed)
	for _, d := range r.databases {
		text += " " + d.stateKey()
	}
	return text
}

// stateKey is everything whose change is worth a heartbeat of the database.
func (d *Database) stateKey() string {
	key := d.condition().State + " " + string(d.verdict()) + " " + d.topologyNews() + " " + d.pauseNews() + " " + d.outboxNews() + " " + schedulesImpaired(d) + " " + queuesFailed(d)
	pauses, _ := d.activePauses()
	for i := range pauses {
		if pauses[i].Running == 0 {
			key += " nothing runs: " + pauses[i].Key
		}
	}
	return key
}

// PublishRunner publishes the runner's heartbeat now.
func (r *Runner) PublishRunner(ctx context.Context) {
	shared, err := publish(ctx, r.heartbeats, r.status())
	if err != nil && ctx.Err() == nil {
		r.log.Warn("heartbeat not published", zap.Error(err))
		return
	}
	r.duplicates.note(shared, r.cfg.Worker.HeartbeatInterval, r.self, r.log)
}

func (r *Runner) publishDatabase(ctx context.Context, d *Database) {
	if _, err := publish(ctx, d.heartbeats, r.databaseStatus(d)); err != nil && ctx.Err() == nil {
		r.log.Warn("heartbeat not published", zap.String("database", d.Name), zap.Error(err))
	}
}

func publish(ctx context.Context, heartbeats *bus.HeartbeatPublisher, message any) (shared bool, err error) {
	body, err := json.Marshal(message)
	if err != nil {
		return false, err
	}
	return heartbeats.Publish(ctx, body)
}

// sampleLag asks at each interval how far the lanes are behind, until ctx ends. It is apart from the heartbeats, which do
// not wait for the answers.
func (r *Runner) sampleLag(ctx context.Context) error {
	ticker := time.NewTicker(r.cfg.Worker.HeartbeatInterval)
	defer ticker.Stop()
	for {
		for _, d := range r.databases {
			for _, l := range d.lanes {
				if lag, err := bus.ReadLag(ctx, r.conn, d.Name, l.name); err == nil { // else the old one stays, with its time
					l.lag.Store(&lag)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
