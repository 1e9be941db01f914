package schedule

import (
	"slices"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/report"
)

// count counts what a state that this runner has stored says more than the one before.
func (t *Tracker) count(e *entry, before, after *contract.ScheduleState) {
	if before == nil || before.Record.Created != after.Record.Created {
		before = &contract.ScheduleState{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.ticks[e.id.Database]
	n.Fired += after.Fired - before.Fired
	n.Missed += after.Missed - before.Missed
	n.Skipped += after.Skipped - before.Skipped
	n.Unconfirmed += after.Unconfirmed - before.Unconfirmed
}

// maxFailing bounds the schedules with errors that a heartbeat lists.
const maxFailing = 20

// Summary describes the schedules of a database as this runner has them; nil: it has none, and nothing is wrong.
func (t *Tracker) Summary(database string) *contract.ScheduleSummary {
	now, _ := t.time()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := &contract.ScheduleSummary{Problem: t.trouble}
	var failing []*entry
	for _, e := range t.entries {
		if e.id.Database != database || !e.record.Exists {
			continue
		}
		out.Total++
		s := e.state.Value
		if e.why() != "" {
			failing = append(failing, e)
		}
		if s == nil {
			continue
		}
		if s.Status == contract.ScheduleFinished {
			out.Finished++
		}
		if _, paused := t.opts.Paused(e.id); paused {
			out.Paused++
		}
		if s.Next != nil && s.Status == contract.ScheduleActive {
			if late := now.Sub(*s.Next).Seconds(); !now.IsZero() && late > out.Overdue {
				out.Overdue = late
			}
		}
	}
	slices.SortFunc(failing, byKey)
	out.Failing = len(failing)
	for _, e := range failing[:min(len(failing), maxFailing)] {
		out.Errors = append(out.Errors, contract.ScheduleError{Key: e.key, Error: e.why()})
	}
	if out.Total == 0 && out.Problem == "" {
		return nil
	}
	return out
}

// why is why a schedule does not fire; empty: it does.
func (e *entry) why() string {
	if e.problem != "" {
		return e.problem
	}
	if s := e.state.Value; s != nil && s.Status == contract.ScheduleInError {
		return s.Error
	}
	return ""
}

// Ticks returns the ticks of a database's schedules that this runner has settled since its start.
func (t *Tracker) Ticks(database string) report.Ticks {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.ticks[database]; n != nil {
		return *n
	}
	return report.Ticks{}
}

// Trouble returns what is wrong with the buckets or the clock; empty: nothing.
func (t *Tracker) Trouble() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}

// NextTicks returns the next ticks of a schedule by its state, at most n, for people.
func NextTicks(s *contract.ScheduleState, d *Definition, n int) (out []time.Time) {
	times := timesOf(s, d)
	for at := s.Position; len(out) < n; {
		next, found := times.Next(at)
		if !found {
			return out
		}
		out, at = append(out, next), next
	}
	return out
}
