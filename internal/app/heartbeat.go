package app

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/jobs"
)

// watchInterval is how often the states are looked at between two heartbeats: a change is told within it.
const watchInterval = 500 * time.Millisecond

// The states of a runner.
const (
	stateRunning  = "running"
	stateDraining = "draining"
	stateStopped  = "stopped"
)

// heartbeat is what a runner tells about itself, the last of it kept under its subject.
type heartbeat struct {
	Version    int              `json:"version"` // of this message
	Instance   string           `json:"instance"`
	Build      string           `json:"build"`
	State      string           `json:"state"`
	StartedAt  time.Time        `json:"started_at"`
	At         time.Time        `json:"at"`
	Uptime     float64          `json:"uptime_seconds"`
	Interval   float64          `json:"interval_seconds"` // the next one comes within this time
	Reconnects uint64           `json:"nats_reconnects"`
	Denied     []string         `json:"nats_denied,omitempty"` // subjects that the server refused: permissions are too narrow
	Databases  []databaseHealth `json:"databases"`
}

// databaseHealth is one database as a runner sees it.
type databaseHealth struct {
	Name        string                `json:"name"`
	Engine      string                `json:"engine"`
	State       string                `json:"state"`            // up, down, results_full
	Reason      string                `json:"reason,omitempty"` // why it is down
	Since       *time.Time            `json:"since,omitempty"`
	Slots       int                   `json:"slots"`
	Held        int                   `json:"slots_in_use"`
	Settling    int                   `json:"settling"`
	Connections int                   `json:"connections"`
	Busy        int                   `json:"connections_in_use"`
	Settled     map[jobs.Status]int64 `json:"settled"` // jobs since the start, by how they ended
	Duplicates  int64                 `json:"duplicates"`
	LeasesLost  int64                 `json:"leases_lost"`
	Intake      string                `json:"intake_error,omitempty"`
	Sweep       *sweepHealth          `json:"ledger,omitempty"`
}

// sweepHealth is how the clean-up of a ledger stands.
type sweepHealth struct {
	SweptAt    *time.Time `json:"swept_at,omitempty"`
	Deleted    int64      `json:"deleted"`
	HeldBackBy *time.Time `json:"held_back_by,omitempty"` // timestamp of the message that the clean-up waits for
	Error      string     `json:"error,omitempty"`
}

// beat publishes heartbeats at each interval and soon after every change of a state, until ctx ends.
func (r *running) beat(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var told string
	var at time.Time
	for {
		now := r.states()
		if now != told || time.Since(at) >= r.cfg.Worker.HeartbeatInterval {
			r.publishHeartbeat(ctx)
			told, at = now, time.Now()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// states is everything whose change is worth a heartbeat.
func (r *running) states() string {
	text := r.state()
	for _, d := range r.databases {
		state, _, _ := d.condition()
		text += " " + state
	}
	return text
}

func (r *running) publishHeartbeat(ctx context.Context) {
	body, err := json.Marshal(r.health())
	if err == nil {
		err = r.conn.Heartbeat(ctx, r.cfg.Instance, body)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("heartbeat not published", zap.Error(err))
	}
}

func (r *running) health() *heartbeat {
	now := time.Now()
	link := r.conn.State()
	h := &heartbeat{
		Version: 1, Instance: r.cfg.Instance, Build: r.version, State: r.state(),
		StartedAt: r.startedAt.UTC(), At: now.UTC(), Uptime: now.Sub(r.startedAt).Seconds(),
		Interval: r.cfg.Worker.HeartbeatInterval.Seconds(), Reconnects: link.Reconnects, Denied: link.Denied,
	}
	for _, d := range r.databases {
		h.Databases = append(h.Databases, d.health())
	}
	return h
}

func (d *database) health() databaseHealth {
	state, reason, since := d.condition()
	pool := d.db.Stats()
	h := databaseHealth{
		Name: d.name, Engine: d.db.Engine(), State: state, Reason: reason, Since: moment(since),
		Connections: pool.Total, Busy: pool.InUse, Settled: map[jobs.Status]int64{},
	}
	for _, l := range d.lanes {
		s := l.State()
		h.Slots, h.Held, h.Settling = h.Slots+s.Slots, h.Held+s.Held, h.Settling+s.Settling
		h.Duplicates, h.LeasesLost = h.Duplicates+s.Duplicates, h.LeasesLost+s.LeasesLost
		for status, n := range s.Settled {
			h.Settled[status] += n
		}
		if h.Intake == "" {
			h.Intake = s.IntakeError
		}
	}
	for _, in := range d.intakes {
		if h.Intake == "" {
			h.Intake = in.trouble()
		}
	}
	if d.sweeper != nil {
		s := d.sweeper.State()
		h.Sweep = &sweepHealth{SweptAt: moment(s.At), Deleted: s.Deleted, HeldBackBy: moment(s.HeldBackBy), Error: s.Error}
	}
	return h
}

// condition is whether a database's jobs run, and if not, why and since when.
func (d *database) condition() (state, reason string, since time.Time) {
	g := d.gate.State()
	switch {
	case g.Unreachable != "":
		return "down", g.Unreachable, g.Since
	case g.ResultsFull:
		return "results_full", "the results stream has no room: its intake has stopped", g.FullSince
	default:
		return "up", "", time.Time{}
	}
}

// moment is a time in UTC; nil if it is unset.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
