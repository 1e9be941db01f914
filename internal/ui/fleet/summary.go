package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
)

// LaneSummary is a lane over the whole fleet.
type LaneSummary struct {
	Name        string
	Queue       string // whose jobs it runs; empty: it is no queue's
	Slots       int
	InUse       int
	Settling    int
	Pending     uint64
	AckPending  int
	Redelivered int
	At          time.Time
	Known       bool // the lag was asked
	Errors      []string
	Failed      *contract.FailedJob // of an ordered queue: the job that keeps it waiting; nil: none does
}

// DatabaseSummary is a database as all runners together report it: the worst of what they see.
type DatabaseSummary struct {
	Name, Engine, Version string
	Verdict               contract.Verdict
	State, Reason         string
	Since                 *time.Time
	Reasons               []string
	Pauses                []contract.ActivePause
	Lanes                 []LaneSummary
	Pending               uint64
	Abandoned             bool       // it has a stream of jobs, and no runner
	Oldest                *time.Time // the oldest pending job of one that is abandoned; otherwise the lanes know
	InFlight              int
	Rate                  float64
	HasRate               bool
	Runners               []*DatabaseSeen // that report it, by name
	Silent                []string        // runners that had it and are not heard any more
	Topology              []contract.TopologyProblem
	HeldBack              *time.Time // by a pending message: ledger cleanup waits for it
	CleanupError          string
	Migrations            *contract.MigrationHealth
	Results               *contract.ResultsRoom
	Outbox                *contract.OutboxStatus    // of the runner that sees the most trouble; nil: no rows are relayed
	Schedules             *contract.ScheduleSummary // of the runner with the most schedules; nil: there are none
	Catalogs              map[string][]string       // runners, by the hash of their catalogs
}

// Rank orders databases: the worst first.
func (d *DatabaseSummary) Rank() int {
	switch {
	case len(d.Runners) == 0:
		return 5
	case d.State == contract.DatabasePaused:
		return 2
	case d.Verdict == contract.Unhealthy:
		return 4
	case d.State != contract.DatabaseUp && d.State != "":
		return 3
	case d.Verdict == contract.Degraded:
		return 1
	}
	return 0
}

// Word is the one word for its state.
func (d *DatabaseSummary) Word() string {
	switch {
	case len(d.Runners) == 0:
		return "no runner"
	case d.State == contract.DatabasePaused:
		return contract.DatabasePaused
	case d.Verdict != "" && d.Verdict != contract.Healthy, d.Verdict == contract.Healthy && (d.State == "" || d.State == contract.DatabaseUp):
		return string(d.Verdict)
	}
	return cmp.Or(d.State, "starting") // the last check may be older than that
}

// Why is the reason for its state, in one line.
func (d *DatabaseSummary) Why() string {
	switch {
	case len(d.Runners) == 0:
		if len(d.Silent) > 0 {
			return "no heartbeat from " + strings.Join(d.Silent, ", ")
		}
		if !d.Abandoned {
			return ""
		}
		return "no runner reports it: start one, or, if it is not used any more, remove its streams with runner topology prune"
	case d.State == contract.DatabasePaused && d.Paused():
		return PausedBy(d.PauseOf(""))
	case d.Reason != "":
		return d.Reason
	case len(d.Reasons) > 0:
		return d.Reasons[0]
	}
	return ""
}

// Paused reports whether an operator has paused it; not one of its queues alone.
func (d *DatabaseSummary) Paused() bool { return d.PauseOf("") != nil }

// PauseOf returns the pause of one of its queues, or, without a name, of all of its jobs; nil: there is none.
func (d *DatabaseSummary) PauseOf(queue string) *contract.ActivePause {
	key := contract.PauseKey(contract.PauseTarget{Database: d.Name, Queue: queue})
	for i := range d.Pauses {
		if d.Pauses[i].Key == key {
			return &d.Pauses[i]
		}
	}
	return nil
}

// Stopped is the failed job that has kept an ordered queue of it waiting for the longest time; nil: there is none.
func (d *DatabaseSummary) Stopped() (longest *contract.FailedJob) {
	for i := range d.Lanes {
		if failed := d.Lanes[i].Failed; failed != nil && (longest == nil || failed.Since.Before(longest.Since)) {
			longest = failed
		}
	}
	return longest
}

// PausedBy is who paused and why.
func PausedBy(p *contract.ActivePause) string {
	return "by " + cmp.Or(p.By, "an operator") + ": " + cmp.Or(p.Reason, "no reason given")
}

// Summaries are all databases of the fleet, by name.
func (f *Fleet) Summaries(now time.Time) []*DatabaseSummary {
	all := map[string]*DatabaseSummary{}
	of := func(name string) *DatabaseSummary {
		if all[name] == nil {
			all[name] = &DatabaseSummary{Name: name}
		}
		return all[name]
	}
	for name, runners := range f.Databases {
		d := of(name)
		for _, instance := range slices.Sorted(maps.Keys(runners)) {
			if seen := runners[instance]; !seen.gone(now) {
				d.add(seen)
			} else if seen.RunnerState != contract.RunnerStopped {
				d.Silent = append(d.Silent, instance)
			}
		}
	}
	for _, instance := range slices.Sorted(maps.Keys(f.Runners)) {
		r := f.Runners[instance]
		if r.State == contract.RunnerStopped {
			continue
		}
		for i := range r.Databases {
			of(r.Databases[i].Name).addRunner(r, &r.Databases[i], r.Silent(now))
		}
	}
	for _, d := range f.abandoned {
		if has := all[d.Name]; has == nil || len(has.Runners)+len(has.Silent) == 0 {
			one := *d
			all[d.Name] = &one
		}
	}
	out := make([]*DatabaseSummary, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if d := all[name]; len(d.Runners) > 0 || len(d.Silent) > 0 || d.Abandoned { // one that has no stream and no runner is not part of the fleet any more
			d.Reasons = slices.Compact(slices.Sorted(slices.Values(d.Reasons)))
			out = append(out, d)
		}
	}
	return out
}

// add takes over what a runner reports of the database.
func (d *DatabaseSummary) add(seen *DatabaseSeen) {
	d.Runners = append(d.Runners, seen)
	d.Engine = seen.Engine
	if stateRank(seen.State) > stateRank(d.State) {
		d.State, d.Reason, d.Since = seen.State, seen.Reason, seen.Since
	} else if seen.State == d.State && seen.Since != nil && (d.Since == nil || seen.Since.Before(*d.Since)) {
		d.Since = seen.Since
	}
	for _, p := range seen.Pauses {
		if !slices.ContainsFunc(d.Pauses, func(known contract.ActivePause) bool { return known.Key == p.Key }) {
			d.Pauses = append(d.Pauses, p)
		}
	}
	if seen.Health != nil {
		if worse(seen.Verdict) > worse(d.Verdict) {
			d.Verdict = seen.Verdict
		}
		d.Reasons = append(d.Reasons, seen.Reasons...)
		if q := seen.Checks.Query; q != nil && q.Version != "" {
			d.Version = q.Version
		}
		if seen.Checks.Migrations != nil {
			d.Migrations = seen.Checks.Migrations
		}
	}
	d.addParts(seen)
	if sweep := seen.Sweep; sweep != nil {
		if sweep.HeldBackBy != nil && (d.HeldBack == nil || sweep.HeldBackBy.Before(*d.HeldBack)) {
			d.HeldBack = sweep.HeldBackBy
		}
		d.CleanupError = cmp.Or(d.CleanupError, sweep.Error)
	}
}

// addParts takes over what only some databases have.
func (d *DatabaseSummary) addParts(seen *DatabaseSeen) {
	if o := seen.Outbox; o != nil && (d.Outbox == nil || d.Outbox.Trouble == "") {
		d.Outbox = o
	}
	if n := seen.Schedules; n != nil && (d.Schedules == nil || n.Total > d.Schedules.Total || n.Problem != "") {
		d.Schedules = n
	}
	if seen.Catalog != "" {
		if d.Catalogs == nil {
			d.Catalogs = map[string][]string{}
		}
		d.Catalogs[seen.Catalog] = append(d.Catalogs[seen.Catalog], seen.Instance)
	}
}

func stateRank(state string) int {
	return map[string]int{
		contract.DatabaseUp: 1, contract.DatabasePaused: 2, contract.DatabaseResultsFull: 3, contract.DatabaseBlocked: 4, contract.DatabaseDown: 5,
	}[state]
}

// addRunner takes over the figures of a runner's own heartbeat.
func (d *DatabaseSummary) addRunner(r *RunnerSeen, status *contract.DatabaseStatus, silent bool) {
	for i := range status.Lanes {
		from := &status.Lanes[i]
		at := slices.IndexFunc(d.Lanes, func(l LaneSummary) bool { return l.Name == from.Name })
		if at < 0 {
			at, d.Lanes = len(d.Lanes), append(d.Lanes, LaneSummary{Name: from.Name, Queue: from.Queue})
		}
		l := &d.Lanes[at]
		if from.Lag != nil && from.Lag.At.After(l.At) {
			d.Pending += from.Lag.Pending - l.Pending
			l.Pending, l.AckPending, l.Redelivered, l.At, l.Known = from.Lag.Pending, from.Lag.AckPending, from.Lag.Redelivered, from.Lag.At, true
		}
		if silent {
			continue
		}
		if from.Failed != nil {
			l.Failed = from.Failed
		}
		l.Slots, l.InUse, l.Settling = l.Slots+from.Slots, l.InUse+from.SlotsInUse, l.Settling+from.Settling
		d.InFlight += from.SlotsInUse
		if from.Intake != "" && !slices.Contains(l.Errors, from.Intake) {
			l.Errors = append(l.Errors, from.Intake)
		}
	}
	if silent {
		return
	}
	if status.Results != nil {
		d.Results = status.Results
	}
	if rate, known := r.rates[d.Name]; known {
		d.Rate, d.HasRate = d.Rate+rate, true
	}
	for _, p := range r.Topology {
		same := func(known contract.TopologyProblem) bool { return known.Problem == p.Problem }
		if (p.Database == "" || p.Database == d.Name) && p.Effect != contract.EffectNote && !slices.ContainsFunc(d.Topology, same) {
			d.Topology = append(d.Topology, p)
		}
	}
}

// WorstFirst orders databases for the eye.
func WorstFirst(all []*DatabaseSummary) {
	slices.SortStableFunc(all, func(a, b *DatabaseSummary) int {
		return cmp.Or(cmp.Compare(b.Rank(), a.Rank()), cmp.Compare(b.Pending, a.Pending), strings.Compare(a.Name, b.Name))
	})
}

// worse orders verdicts: more is worse.
func worse(v contract.Verdict) int {
	return map[contract.Verdict]int{contract.Healthy: 1, contract.Degraded: 2, contract.Unhealthy: 3}[v]
}
