package schedule

import (
	"time"

	"dbrunner/contract"
	"dbrunner/internal/cron"
)

// created returns the first state of a schedule.
func (in *Input) created() *contract.ScheduleState {
	r := &in.Record
	s := &contract.ScheduleState{
		Record:   contract.ScheduleRecord{Created: r.Created, Revision: r.Revision, Stored: r.Stored},
		Anchor:   wholeSecond(r.Stored),
		Position: r.Stored,
	}
	if in.Definition == nil {
		s.Status, s.Error = contract.ScheduleInError, in.Fault
		return s
	}
	times := takeTimes(s, in.Definition)
	// No earlier state of this schedule can have been lost with its bucket if that is older than the schedule.
	if in.State.Value != nil || in.StatesFrom.Before(r.CreatedAt) {
		countUnconfirmed(s, times, r.CreatedAt, r.Stored, "it was due before the schedule was edited")
	} else {
		countUnconfirmed(s, times, r.CreatedAt, in.Now, "it was due before the state of the schedule was created, and an earlier state may have fired it")
		s.Position = in.Now.UTC()
	}
	countPast(s)
	setNext(s, times, s.Position)
	return s
}

// followed returns the state that follows a newer record. The times change once the claim is settled.
func (in *Input) followed() *contract.ScheduleState {
	s := *in.State.Value
	s.Record.Revision, s.Record.Stored = in.Record.Revision, in.Record.Stored
	if in.Definition == nil {
		s.Status, s.Error = contract.ScheduleInError, in.Fault
		return &s
	}
	if s.Claim != nil {
		return &s
	}
	if sameTimes(&s, in.Definition.Record) {
		setNext(&s, timesOf(&s, in.Definition), s.Position)
		return &s
	}
	if old := oldTimes(&s, in.Definition); old != nil {
		countUnconfirmed(&s, old, s.Position, in.Record.Stored, "it was due before the times of the schedule were changed")
	}
	s.Anchor = wholeSecond(in.Record.Stored)
	if s.Position.Before(in.Record.Stored) {
		s.Position = in.Record.Stored
	}
	times := takeTimes(&s, in.Definition)
	countPast(&s)
	setNext(&s, times, s.Position)
	return &s
}

// wholeSecond rounds up to a second: two ticks never share one, as the ids of their jobs do not say more.
func wholeSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second)
	}
	return t
}

// setNext sets status and next tick of a state whose ticks up to a position are settled.
func setNext(s *contract.ScheduleState, times *cron.Times, position time.Time) {
	s.Status, s.Error, s.Position, s.Next = contract.ScheduleActive, "", position, nil
	if next, found := times.Next(position); found {
		s.Next = &next
	} else {
		s.Status = contract.ScheduleFinished
	}
}

// takeTimes takes over the times of a record.
func takeTimes(s *contract.ScheduleState, d *Definition) *cron.Times {
	s.Cron, s.Every, s.At, s.TimeZone = d.Record.Cron, d.Record.Every, d.Record.At, d.Record.TimeZone
	return timesOf(s, d)
}

// sameTimes reports whether the times in force are those of a record.
func sameTimes(s *contract.ScheduleState, r *contract.Schedule) bool {
	sameAt := s.At == nil && r.At == nil || s.At != nil && r.At != nil && s.At.Equal(*r.At)
	return s.Cron == r.Cron && s.Every == r.Every && s.TimeZone == r.TimeZone && sameAt
}

// timesOf returns the times in force. They were read before; those of another version may mean nothing here, and have no ticks.
func timesOf(s *contract.ScheduleState, d *Definition) *cron.Times {
	var times cron.Times
	switch every, err := time.ParseDuration(s.Every); {
	case s.Cron != "":
		zone, zoneErr := d.zones.Load(s.TimeZone)
		if parsed, err := cron.Parse(s.Cron, zone); err == nil && zoneErr == nil {
			times = parsed
		}
	case s.Every != "" && err == nil && every > 0:
		times = cron.Every(every, s.Anchor)
	case s.At != nil:
		times = cron.At(*s.At)
	}
	return &times
}

// oldTimes returns the times that were in force; nil: there were none.
func oldTimes(s *contract.ScheduleState, d *Definition) *cron.Times {
	if s.Cron == "" && s.Every == "" && s.At == nil {
		return nil
	}
	return timesOf(s, d)
}

// countUnconfirmed counts the ticks after one time and not after another.
func countUnconfirmed(s *contract.ScheduleState, times *cron.Times, after, until time.Time, reason string) {
	if n := times.Count(after, until); n > 0 {
		newest, _ := times.Newest(after, until)
		s.Unconfirmed += n
		s.LastUnconfirmed = &contract.ScheduleTick{Tick: newest, Reason: reason}
	}
}

// countPast counts the only tick of a one-time schedule that was over when its time was set.
func countPast(s *contract.ScheduleState) {
	if s.At == nil || s.At.After(s.Position) || s.LastUnconfirmed != nil && s.LastUnconfirmed.Tick.Equal(*s.At) {
		return
	}
	if s.LastFired != nil && s.LastFired.Tick.Equal(*s.At) {
		return
	}
	s.Unconfirmed++
	s.LastUnconfirmed = &contract.ScheduleTick{Tick: *s.At, Reason: "its time was over when it was set"}
}

// passed returns the state after ticks up to one that does not fire.
func passed(s *contract.ScheduleState, newest time.Time, times *cron.Times, count func(*contract.ScheduleState)) *contract.ScheduleState {
	out := *s
	count(&out)
	setNext(&out, times, newest)
	return &out
}

func countMissed(s *contract.ScheduleState, n uint64, newest time.Time) {
	s.Missed += n
	s.LastMissed = &contract.ScheduleTick{Tick: newest, Reason: "no runner fired it in time"}
}

// Confirmed returns the state after the claimed job was stored in its stream.
func Confirmed(s *contract.ScheduleState, d *Definition, sequence uint64) *contract.ScheduleState {
	out := *s
	out.Fired++
	out.LastFired = &contract.ScheduleTick{Tick: s.Claim.Tick, JobID: s.Claim.JobID, Sequence: sequence}
	out.Claim = nil
	setNext(&out, timesOf(&out, d), s.Claim.Tick)
	return &out
}

// givenUp returns the state after a claim is given up whose job may have been published.
func givenUp(s *contract.ScheduleState, reason string) *contract.ScheduleState {
	out := *s
	out.Unconfirmed++
	out.LastUnconfirmed = &contract.ScheduleTick{Tick: s.Claim.Tick, JobID: s.Claim.JobID, Reason: reason}
	out.Position, out.Claim = s.Claim.Tick, nil
	return &out
}
