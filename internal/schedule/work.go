package schedule

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/crash"
)

// maxSteps bounds the decisions in a row about one schedule.
const maxSteps = 16

// work is the work on one schedule that is due, on a copy of it.
type work struct {
	t     *Tracker
	rules *Rules
	entry *entry

	statesFrom  time.Time
	full, tight bool

	fresh, own  bool
	predecessor Predecessor
}

// run decides and acts until there is nothing to do at the moment.
func (w *work) run(ctx context.Context) {
	e := w.entry
	for range maxSteps {
		now, trouble := w.t.time()
		if trouble != "" {
			w.later(now, trouble) // due as soon as the time is known: start looks at nothing before
			return
		}
		e.define(w.rules)
		by, paused := w.t.opts.Paused(e.id)
		a := Decide(&Input{
			Record: e.record, Definition: e.definition, Fault: e.fault, Fresh: w.fresh, State: e.state, StatesFrom: w.statesFrom, Full: w.full,
			Now: now, Paused: paused, PausedBy: by, Predecessor: w.predecessor, Runner: w.t.opts.Runner, Own: w.own,
			Rank: func(tick time.Time) time.Duration { return rank(w.t.opts.Runner, e.key, tick) },
		})
		if a.Verb == Wait {
			e.wake, e.problem, e.failures = a.At, a.Problem, 0
			return
		}
		if again, err := w.act(ctx, now, &a); err != nil {
			w.later(now, bus.ErrorText(err))
			return
		} else if !again {
			return
		}
	}
	w.later(w.now(), "it changes all the time")
}

func (w *work) now() time.Time {
	now, _ := w.t.time()
	return now
}

// later makes the schedule be decided about again, later with each failure in a row.
func (w *work) later(now time.Time, reason string) {
	e := w.entry
	e.wake, e.problem = now.Add(bus.Backoff(e.failures, 250*time.Millisecond, 15*time.Second)), reason
	e.failures++
}

// act carries out a decision. again: another decision follows immediately.
func (w *work) act(ctx context.Context, now time.Time, a *Action) (again bool, err error) {
	e, store := w.entry, w.t.opts.Store
	switch a.Verb {
	case ReadRecord:
		return true, w.readRecord(ctx)
	case Put:
		return true, w.put(ctx, a.State)
	case LookUp:
		last := e.state.Value.LastFired
		unfinished, err := store.Unfinished(ctx, e.id.Database, last.Sequence, contract.ScheduleMessageID(e.id.TickID(last.Tick)))
		w.predecessor = PredecessorFinished
		if unfinished {
			w.predecessor = PredecessorUnfinished
		}
		return true, err
	case Publish:
		return w.publish(ctx, now, a.Claim)
	case PurgeState:
		err = store.PurgeState(ctx, e.key, e.state.Revision+1)
		if err == nil {
			e.state = State{}
		}
		return true, err
	case PurgeRecord:
		err = store.PurgeRecord(ctx, e.key, e.record.last()+1)
		if err == nil {
			e.record, w.fresh = Record{}, true
		}
		return true, err
	case Wait:
	}
	return false, nil
}

// readRecord reads the record again, from the stream's leader.
func (w *work) readRecord(ctx context.Context) error {
	e := w.entry
	entries, last, err := w.t.opts.Store.ReadRecord(ctx, e.key, e.record.last()+1)
	if err != nil {
		return err
	}
	if last == nil || last.Sequence < e.record.last() {
		e.record = Record{}
	}
	for i := range entries {
		e.record.Take(&entries[i])
	}
	w.fresh = true
	return nil
}

// put stores a state by compare-and-set. If it has changed meanwhile, both are read again.
func (w *work) put(ctx context.Context, s *contract.ScheduleState) error {
	e := w.entry
	value, err := contract.EncodeScheduleState(s)
	if err != nil {
		return err
	}
	sequence, err := w.t.opts.Store.PutState(ctx, e.key, value, e.state.Revision)
	w.own, w.predecessor = false, PredecessorUnknown
	if errors.Is(err, schedules.ErrChanged) {
		return w.readState(ctx)
	}
	if err != nil {
		return err
	}
	before := e.state.Value
	w.own = s.Claim != nil && (before == nil || before.Claim == nil)
	w.t.count(e, before, s)
	e.state = State{Exists: true, Revision: sequence, Stored: w.now(), Value: s}
	if w.own {
		crash.At("schedule_claimed")
	}
	return nil
}

// readState reads the state again, and then the record, so that both are one copy.
func (w *work) readState(ctx context.Context) error {
	e := w.entry
	last, err := w.t.opts.Store.ReadState(ctx, e.key)
	if err != nil {
		return err
	}
	e.state = State{}
	if last != nil {
		e.state = stateOf(last)
	}
	return w.readRecord(ctx)
}

// publish publishes the job of a claim, and confirms it.
func (w *work) publish(ctx context.Context, now time.Time, c *contract.ScheduleClaim) (again bool, err error) {
	e, s := w.entry, w.entry.state.Value
	messageID := contract.ScheduleMessageID(e.id.TickID(c.Tick))
	crash.At("schedule_publishing")
	sequence, err := w.t.opts.Store.Publish(ctx, e.id, messageID, e.definition.Body(c.JobID, c.ExpiresAt))
	w.own = false
	if refused, ok := errors.AsType[*schedules.RefusedError](err); ok {
		if next, found := timesOf(s, e.definition).Next(c.Tick); found && !w.now().Before(next) {
			return true, w.put(ctx, givenUp(s, refused.Reason))
		}
	}
	if err != nil {
		w.later(now, "the job of "+c.Tick.Format(time.RFC3339)+" is not published: "+bus.ErrorText(err))
		return false, nil
	}
	crash.At("schedule_published")
	if err := w.confirm(ctx, c, sequence); err != nil {
		return false, err
	}
	crash.At("schedule_confirmed")
	if w.tight && e.state.Revision > 0 {
		if err := w.t.opts.Store.PurgeState(ctx, e.key, e.state.Revision); err != nil {
			w.t.opts.Log.Debug("history of a schedule's state not purged", zap.String("schedule", e.key), zap.Error(err))
		}
	}
	return true, nil
}

// confirm stores that the job of a claim was stored, as long as the state holds that claim.
func (w *work) confirm(ctx context.Context, c *contract.ScheduleClaim, sequence uint64) error {
	for range maxSteps {
		s := w.entry.state.Value
		if s == nil || s.Claim == nil || *s.Claim != *c || w.entry.definition == nil {
			return nil
		}
		before := w.entry.state.Revision
		if err := w.put(ctx, Confirmed(s, w.entry.definition, sequence)); err != nil {
			return err
		}
		if w.entry.state.Value != nil && w.entry.state.Value.Claim == nil && w.entry.state.Revision > before {
			return nil
		}
		w.entry.define(w.rules)
	}
	return schedules.ErrChanged
}
