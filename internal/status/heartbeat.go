package status

import (
	"time"

	"dbrunner/contract"
)

// The states of a runner.
const (
	Starting = contract.RunnerStarting
	Running  = contract.RunnerRunning
	Draining = contract.RunnerDraining
	Stopped  = contract.RunnerStopped
)

// The states of a database.
const (
	databaseUp   = contract.DatabaseUp
	databaseDown = contract.DatabaseDown
	databaseFull = contract.DatabaseResultsFull
	// databaseBlocked: a stream or consumer that its jobs need is missing, paused or not usable.
	databaseBlocked = contract.DatabaseBlocked
)

// heartbeat is the state of a runner; the stream keeps the last one.
type heartbeat struct {
	Version    int       `json:"version"` // of this message
	Instance   string    `json:"instance"`
	Process    string    `json:"process"` // another one for each run of the runner
	Host       string    `json:"host,omitempty"`
	PID        int       `json:"pid"`
	Shared     bool      `json:"instance_shared,omitempty"` // another process has the same instance name
	Build      string    `json:"build"`
	State      string    `json:"state"`
	StartedAt  time.Time `json:"started_at"`
	At         time.Time `json:"at"`
	Uptime     float64   `json:"uptime_seconds"`
	Interval   float64   `json:"interval_seconds"` // the next one comes within this time
	Reconnects uint64    `json:"nats_reconnects"`
	Denied     []string  `json:"nats_denied,omitempty"` // subjects that the server refused: permissions are too narrow
	// Answers that the server did not deliver to where their requesters wanted them.
	DeniedReplies uint64           `json:"nats_denied_replies,omitempty"`
	Databases     []databaseStatus `json:"databases"`

	Topology []topologyProblem `json:"topology,omitempty"` // streams and consumers that are not as they should be
}

// databaseStatus is one database as a runner works on it.
type databaseStatus struct {
	Name    string           `json:"name"`
	Engine  string           `json:"engine"`
	Verdict contract.Verdict `json:"verdict,omitempty"` // of the last look; missing before the first one
	condition
	Lanes   []laneStatus   `json:"lanes"`
	Results *resultsStatus `json:"results,omitempty"` // missing before they were looked at
}

// condition is whether a database's jobs run.
type condition struct {
	State  string     `json:"state"`            // up, down, results_full, blocked
	Reason string     `json:"reason,omitempty"` // why it is not up
	Since  *time.Time `json:"since,omitempty"`
}

// laneStatus is one lane. What counts up does so since the runner's start.
type laneStatus struct {
	Name       string                    `json:"name"`
	Slots      int                       `json:"slots"`
	SlotsInUse int                       `json:"slots_in_use"`
	Settling   int                       `json:"settling"`
	Settled    map[contract.Status]int64 `json:"jobs"` // by how they ended
	Duplicates int64                     `json:"duplicates"`
	LeasesLost int64                     `json:"leases_lost"`
	Lag        *lagStatus                `json:"lag,omitempty"` // missing before it was asked
	Intake     string                    `json:"intake_error,omitempty"`
}

// lagStatus is how far a lane is behind, in the whole fleet.
type lagStatus struct {
	Pending     uint64    `json:"waiting"`     // jobs that no runner has yet
	AckPending  int       `json:"held"`        // jobs that runners have
	Redelivered int       `json:"redelivered"` // of those
	At          time.Time `json:"at"`
}

// resultsStatus is the room of a results stream.
type resultsStatus struct {
	Kept      uint64  `json:"kept"`
	KeptBytes uint64  `json:"kept_bytes"`
	Left      *uint64 `json:"room,omitempty"` // missing where there is no limit
	LeftBytes *uint64 `json:"room_bytes,omitempty"`
}

// databaseHeartbeat is the state of a database as a runner sees it; the stream keeps the last one.
type databaseHeartbeat struct {
	Version     int       `json:"version"` // of this message
	Database    string    `json:"database"`
	Engine      string    `json:"engine"`
	Instance    string    `json:"instance"`
	Process     string    `json:"process"`
	RunnerState string    `json:"runner_state"`
	At          time.Time `json:"at"`
	Interval    float64   `json:"interval_seconds"`
	condition
	CheckedAt        *time.Time   `json:"checked_at,omitempty"` // missing with all that the look found, before the first one
	*contract.Health              // of the last look
	Sweep            *sweepHealth `json:"ledger,omitempty"`
}

// sweepHealth is how the clean-up of a ledger stands.
type sweepHealth struct {
	SweptAt    *time.Time `json:"swept_at,omitempty"`
	Deleted    int64      `json:"deleted"`
	HeldBackBy *time.Time `json:"held_back_by,omitempty"` // timestamp of the message that the clean-up waits for
	Error      string     `json:"error,omitempty"`
}

// status is the runner's heartbeat at this moment.
func (r *Runner) status() *heartbeat {
	now := time.Now()
	link := r.conn.State()
	h := &heartbeat{
		Version: 1, Instance: r.cfg.Instance, Process: r.self.ID, Host: r.self.Host, PID: r.self.PID,
		Shared: r.duplicates.noticed, Build: r.version, State: r.state(),
		StartedAt: r.startedAt.UTC(), At: now.UTC(), Uptime: now.Sub(r.startedAt).Seconds(),
		Interval: r.cfg.Worker.HeartbeatInterval.Seconds(), Reconnects: link.Reconnects, Denied: link.Denied,
		DeniedReplies: link.DeniedReplies, Topology: r.problems(),
	}
	for _, d := range r.databases {
		h.Databases = append(h.Databases, d.status())
	}
	return h
}

func (d *Database) status() databaseStatus {
	out := databaseStatus{
		Name: d.Name, Engine: d.DB.Engine(), Verdict: d.verdict(), condition: d.condition(), Results: d.room(),
	}
	for _, l := range d.lanes {
		s := l.state()
		shown := laneStatus{
			Name: l.name, Slots: s.Slots, SlotsInUse: s.SlotsInUse, Settling: s.Settling, Settled: s.Settled,
			Duplicates: s.Duplicates, LeasesLost: s.LeasesLost, Intake: s.IntakeError,
		}
		if lag := l.lag.Load(); lag != nil {
			shown.Lag = &lagStatus{Pending: lag.Pending, AckPending: lag.AckPending, Redelivered: lag.Redelivered, At: lag.At.UTC()}
		}
		out.Lanes = append(out.Lanes, shown)
	}
	return out
}

// room is what the results stream holds and takes, as the retention saw it last.
func (d *Database) room() *resultsStatus {
	seen, ok := d.Results.SeenRoom()
	if !ok {
		return nil
	}
	left := func(limit, used uint64) *uint64 {
		if limit == 0 {
			return nil
		}
		n := limit - min(used, limit)
		return &n
	}
	return &resultsStatus{
		Kept: seen.Messages, KeptBytes: seen.Bytes,
		Left: left(seen.MaxMessages, seen.Messages), LeftBytes: left(seen.MaxBytes, seen.Bytes),
	}
}

// databaseStatus is a database's heartbeat at this moment.
func (r *Runner) databaseStatus(d *Database) *databaseHeartbeat {
	h := &databaseHeartbeat{
		Version: 1, Database: d.Name, Engine: d.DB.Engine(), Instance: r.cfg.Instance, Process: r.self.ID,
		RunnerState: r.state(), At: time.Now().UTC(), Interval: r.cfg.Worker.HeartbeatInterval.Seconds(),
		condition: d.condition(),
	}
	if last := d.latest.Load(); last != nil {
		h.Health, h.CheckedAt = last.health, moment(last.at)
	}
	if d.sweeper != nil {
		s := d.sweeper.State()
		h.Sweep = &sweepHealth{SweptAt: moment(s.At), Deleted: s.Deleted, HeldBackBy: moment(s.HeldBackBy), Error: s.Error}
	}
	return h
}

// condition is whether the database's jobs run, and if not, why and since when.
func (d *Database) condition() condition {
	g := d.Gate.State()
	switch {
	case g.Unreachable != "":
		return condition{databaseDown, g.Unreachable, moment(g.Since)}
	case g.ResultsFull:
		return condition{databaseFull, "the results stream has no room: its intake has stopped", moment(g.FullSince)}
	}
	if blocked, since := d.problem(effectStops); blocked != "" {
		return condition{databaseBlocked, blocked, moment(since)}
	}
	return condition{State: databaseUp}
}

// moment is a time in UTC; nil if it is unset.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
