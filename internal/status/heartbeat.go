package status

import (
	"time"

	"dbrunner/contract"
)

// status is the runner's heartbeat at this moment.
func (r *Runner) status() *contract.RunnerHeartbeat {
	now := time.Now()
	link := r.conn.State()
	h := &contract.RunnerHeartbeat{
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

func (d *Database) status() contract.DatabaseStatus {
	out := contract.DatabaseStatus{
		Name: d.Name, Engine: d.DB.Engine(), Verdict: d.verdict(), Condition: d.condition(), Results: d.room(), Catalog: d.Catalog,
	}
	for _, l := range d.lanes {
		s := l.state()
		shown := contract.LaneStatus{
			Name: l.name, Queue: l.queue, Slots: s.Slots, SlotsInUse: s.SlotsInUse, Settling: s.Settling, Settled: s.Settled,
			Duplicates: s.Duplicates, LeasesLost: s.LeasesLost, Intake: s.IntakeError, Failed: s.Failed,
		}
		if lag := l.lag.Load(); lag != nil {
			shown.Lag = &contract.LaneLag{Pending: lag.Pending, AckPending: lag.AckPending, Redelivered: lag.Redelivered, At: lag.At.UTC()}
		}
		out.Lanes = append(out.Lanes, shown)
	}
	return out
}

// room is what the results stream holds and takes, as the retention saw it last.
func (d *Database) room() *contract.ResultsRoom {
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
	return &contract.ResultsRoom{
		Kept: seen.Messages, KeptBytes: seen.Bytes,
		Left: left(seen.MaxMessages, seen.Messages), LeftBytes: left(seen.MaxBytes, seen.Bytes),
	}
}

// databaseStatus is a database's heartbeat at this moment.
func (r *Runner) databaseStatus(d *Database) *contract.DatabaseHeartbeat {
	h := &contract.DatabaseHeartbeat{
		Version: 1, Database: d.Name, Engine: d.DB.Engine(), Instance: r.cfg.Instance, Process: r.self.ID,
		RunnerState: r.state(), At: time.Now().UTC(), Interval: r.cfg.Worker.HeartbeatInterval.Seconds(),
		Condition: d.condition(), Catalog: d.Catalog,
	}
	if last := d.latest.Load(); last != nil {
		h.Health, h.CheckedAt = last.health, moment(last.at)
	}
	h.Pauses, h.Running = d.activePauses()
	h.Outbox = d.outboxStatus()
	h.Schedules = scheduled(d)
	if d.sweeper != nil {
		s := d.sweeper.State()
		h.Sweep = &contract.LedgerCleanup{SweptAt: moment(s.At), Deleted: s.Deleted, HeldBackBy: moment(s.HeldBackBy), Error: s.Error}
	}
	return h
}

// condition is whether the database's jobs run, and if not, why and since when.
func (d *Database) condition() contract.Condition {
	g := d.Gate.State()
	switch {
	case g.Unreachable != "":
		return contract.Condition{State: contract.DatabaseDown, Reason: g.Unreachable, Since: moment(g.Since)}
	case g.ResultsFull:
		return contract.Condition{
			State: contract.DatabaseResultsFull, Reason: "the results stream has no room: its intake has stopped", Since: moment(g.FullSince),
		}
	}
	if blocked, since := d.problem(contract.EffectStops); blocked != "" {
		return contract.Condition{State: contract.DatabaseBlocked, Reason: blocked, Since: moment(since)}
	}
	if pauses := d.paused(); len(pauses) > 0 {
		return contract.Condition{State: contract.DatabasePaused, Reason: pauseText(pauses), Since: moment(pauses[0].Since)}
	}
	return contract.Condition{State: contract.DatabaseUp}
}

// moment is a time in UTC; nil if it is unset.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
