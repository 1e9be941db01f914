package schedule

import (
	"time"

	"dbrunner/contract"
	"dbrunner/internal/cron"
)

// The times of the rule, by the server's clock.
const (
	settleAfter = 5 * time.Second // any runner settles a claim that is this old
	keptFor     = 24 * time.Hour  // what is over is purged after this time
	future      = time.Minute     // a state that is further ahead than this is left alone
)

// Record is the record of a schedule as a runner has it.
type Record struct {
	Exists    bool
	Value     []byte
	Revision  uint64
	Stored    time.Time // by the server's clock, as all times here
	Created   uint64    // the first revision since the schedule was created, as far as the bucket shows it
	CreatedAt time.Time
	Removed   uint64 // of the last delete marker that is known; 0: none
	RemovedAt time.Time
}

// State is the state of a schedule as a runner has it.
type State struct {
	Exists   bool
	Revision uint64 // of its last entry; 0: there is none
	Stored   time.Time
	Value    *contract.ScheduleState // nil: there is none, or it cannot be read
	Err      error                   // why it cannot be read
}

// Predecessor is what is known of the job of the tick before.
type Predecessor uint8

// What is known.
const (
	PredecessorUnknown Predecessor = iota
	PredecessorFinished
	PredecessorUnfinished
)

// Input is all that a decision depends on. Record, definition and state are one copy.
type Input struct {
	Record     Record
	Definition *Definition // nil: the record cannot be used, or there is none
	Fault      string      // why it cannot be used
	Fresh      bool        // the record was read after the state, from the stream's leader
	State      State
	StatesFrom time.Time // since when the bucket of states exists
	Full       bool      // the bucket of states has no room for states

	Now         time.Time
	Paused      bool
	PausedBy    string // why, for people
	Predecessor Predecessor
	Runner      string
	Rank        func(tick time.Time) time.Duration // how long this runner leaves a tick to others
	Own         bool                               // the claim in the state is this runner's, made just now
}

// Verb is what a runner does next.
type Verb uint8

// The verbs.
const (
	Wait        Verb = iota + 1 // until Action.At; zero: until something changes
	ReadRecord                  // again, from the stream's leader
	Put                         // Action.State, by compare-and-set
	LookUp                      // whether the job of the tick before has finished
	Publish                     // the claimed job
	PurgeState                  // all entries of the state
	PurgeRecord                 // all entries of the record
)

// Action is the outcome of a decision.
type Action struct {
	Verb    Verb
	At      time.Time
	State   *contract.ScheduleState
	Claim   *contract.ScheduleClaim
	Problem string // why the schedule does not fire; empty: nothing is wrong
}

func waitUntil(at time.Time) Action { return Action{Verb: Wait, At: at} }

func problem(text string) Action { return Action{Verb: Wait, Problem: text} }

func put(s *contract.ScheduleState) Action { return Action{Verb: Put, State: s} }

// Decide returns what a runner does next with a schedule.
func Decide(in *Input) Action {
	action := in.decide()
	if action.Verb == Put && in.Full {
		return problem("the bucket of states is more than 90 percent full; raise topology.state.max_bytes and run runner topology apply")
	}
	return action
}

func (in *Input) decide() Action {
	s := in.State.Value
	switch {
	case in.State.Exists && s == nil:
		return problem("its state cannot be read; a later release may have written it: " + in.State.Err.Error())
	case s != nil && aheadOf(s, in.Now.Add(future)):
		return problem("its state is more than a minute in the future; check the clocks of the NATS servers")
	case s != nil && in.stale() && !in.Fresh:
		return Action{Verb: ReadRecord}
	case !in.Record.Exists:
		return in.removed()
	case s == nil, in.createdAgain():
		return put(in.created())
	case in.stale():
		return problem("its record is older than the one that its state follows; put the record again (runner schedule apply)")
	case !in.follows():
		return put(in.followed())
	}
	return in.advance()
}

// aheadOf reports whether a state knows a later time.
func aheadOf(s *contract.ScheduleState, now time.Time) bool {
	return s.Position.After(now) || s.Record.Stored.After(now) || s.Claim != nil && (s.Claim.Tick.After(now) || s.Claim.At.After(now))
}

// stale reports whether the state follows a later record than the one that this runner has.
func (in *Input) stale() bool {
	known := in.State.Value.Record
	if !in.Record.Exists {
		return in.Record.Removed < known.Revision
	}
	return in.Record.Revision < known.Revision || in.Record.Revision == known.Revision && in.Record.Stored.Before(known.Stored)
}

func (in *Input) follows() bool {
	known := in.State.Value.Record
	return in.Record.Revision == known.Revision && in.Record.Stored.Equal(known.Stored)
}

// createdAgain reports whether the state is that of an earlier schedule with the same key: one that was deleted, or of a bucket
// that was recreated, whose revisions start again.
func (in *Input) createdAgain() bool {
	known := in.State.Value.Record
	return in.Record.Removed > known.Created || in.Record.Revision < known.Revision && in.Record.Stored.After(known.Stored)
}

// removed settles what a schedule without a record has left, and purges it after a day.
func (in *Input) removed() Action {
	s := in.State.Value
	if s != nil && s.Claim != nil {
		if due := s.Claim.At.Add(settleAfter + in.Rank(s.Claim.Tick)); in.Now.Before(due) {
			return waitUntil(due)
		}
		return put(givenUp(s, "the schedule was deleted before its job was confirmed"))
	}
	over := in.Record.RemovedAt
	if over.IsZero() {
		over = in.State.Stored
	}
	over = over.Add(keptFor).Add(in.purgeRank())
	switch {
	case in.Record.Removed == 0 && in.State.Revision == 0:
		return waitUntil(time.Time{})
	case in.Now.Before(over):
		return waitUntil(over)
	case in.State.Revision > 0:
		return Action{Verb: PurgeState}
	}
	return Action{Verb: PurgeRecord}
}

// purgeRank spreads the purges of a fleet over minutes.
func (in *Input) purgeRank() time.Duration { return 1000 * in.Rank(time.Time{}) }

// advance moves a schedule on whose state follows its record.
func (in *Input) advance() Action {
	s := in.State.Value
	switch {
	case in.Definition == nil && s.Status != contract.ScheduleInError: // an earlier release may find bad what a later one fires
		return problem(in.Fault)
	case s.Claim != nil:
		return in.settle()
	case in.Definition == nil:
		return problem(in.Fault)
	case s.Status == contract.ScheduleInError, !sameTimes(s, in.Definition.Record):
		return put(in.followed())
	}
	times := timesOf(s, in.Definition)
	next, found := times.Next(s.Position)
	if !found {
		return in.finish()
	}
	if start := next.Add(in.Rank(next)); in.Now.Before(start) {
		return waitUntil(start)
	}
	return in.fire(times)
}

// finish ends a schedule that has no further tick. A one-time schedule is purged after a day, record first.
func (in *Input) finish() Action {
	s := in.State.Value
	if s.Status != contract.ScheduleFinished {
		out := *s
		out.Status, out.Next = contract.ScheduleFinished, nil
		return put(&out)
	}
	if s.At == nil {
		return waitUntil(time.Time{})
	}
	if over := in.State.Stored.Add(keptFor).Add(in.purgeRank()); in.Now.Before(over) {
		return waitUntil(over)
	}
	return Action{Verb: PurgeRecord}
}

// fire claims the newest tick that is due, or counts why it does not fire. Those before it are missed.
func (in *Input) fire(times *cron.Times) Action {
	s := in.State.Value
	newest, _ := times.Newest(s.Position, in.Now)
	due := times.Count(s.Position, in.Now)
	if in.Paused {
		return put(passed(s, newest, times, func(out *contract.ScheduleState) {
			out.Skipped += due
			out.LastSkipped = &contract.ScheduleTick{Tick: newest, Reason: "paused" + in.PausedBy}
		}))
	}
	expires := in.Definition.Record.ExpiresAt(newest, in.Definition.Job)
	if !in.Now.Before(expires) {
		return put(passed(s, newest, times, func(out *contract.ScheduleState) { countMissed(out, due, newest) }))
	}
	if before := s.LastFired; in.Definition.Record.Overlap != contract.OverlapAllow && before != nil && before.Sequence > 0 {
		switch in.Predecessor {
		case PredecessorUnknown:
			return Action{Verb: LookUp}
		case PredecessorUnfinished:
			return put(passed(s, newest, times, func(out *contract.ScheduleState) {
				in.countEarlier(out, times, due, newest)
				out.Skipped++
				out.LastSkipped = &contract.ScheduleTick{Tick: newest, Reason: "the job " + before.JobID + " has not finished"}
			}))
		case PredecessorFinished:
		}
	}
	out := *s
	in.countEarlier(&out, times, due, newest)
	out.Claim = &contract.ScheduleClaim{
		Tick: newest, JobID: in.Definition.JobID(newest), Job: in.Definition.Hash, ExpiresAt: expires, At: in.Now.UTC(), Runner: in.Runner,
	}
	out.Next = nil
	if next, found := times.Next(newest); found {
		out.Next = &next
	}
	return put(&out)
}

// countEarlier counts the ticks before the newest one that is due.
func (in *Input) countEarlier(out *contract.ScheduleState, times *cron.Times, due uint64, newest time.Time) {
	if due < 2 {
		return
	}
	last, _ := times.Newest(out.Position, newest.Add(-time.Nanosecond))
	countMissed(out, due-1, last)
}

// settle publishes a claimed job, again if need be, or gives the claim up.
func (in *Input) settle() Action {
	s, c := in.State.Value, in.State.Value.Claim
	if !in.Own {
		due := c.At.Add(settleAfter)
		if next, found := in.nextAfter(c.Tick); found && next.Before(due) {
			due = next
		}
		if due = due.Add(in.Rank(c.Tick)); in.Now.Before(due) {
			return waitUntil(due)
		}
	}
	switch {
	case in.Definition == nil || in.Definition.Hash != c.Job:
		return put(givenUp(s, "the job was edited before it was confirmed"))
	case !in.Now.Before(c.ExpiresAt):
		return put(givenUp(s, "no answer came from the jobs stream before the job expired"))
	}
	return Action{Verb: Publish, Claim: c}
}

func (in *Input) nextAfter(tick time.Time) (time.Time, bool) {
	if in.Definition == nil {
		return time.Time{}, false
	}
	return timesOf(in.State.Value, in.Definition).Next(tick)
}
