package delivery

import "dbrunner/contract"

// owner is whose a stored result or a ledger row under the job's id is.
type owner uint8

const (
	unread    owner = iota // not read yet
	absent                 // there is none
	ours                   // this very message's
	duplicate              // another message's with the same request
	foreign                // another request's, or unreadable
)

// cause is why the job is to be finished without another execution.
type cause uint8

const (
	mayRun            cause = iota // nothing speaks against an execution
	preempted                      // it is cancelled or has expired
	invalid                        // this runner cannot accept it; one with another version or configuration may
	invalidEverywhere              // no runner can accept it
	undeliverable                  // it was delivered too often
	storedLate                     // its message was stored after its limit: it never ran, and does not take the id
	failed                         // its execution failed, or the runner's own code
)

// facts is all that decides what a delivery means.
type facts struct {
	effect      contract.Effect // empty if it could not be read
	ledgered    bool            // the job can have a ledger row
	redelivered bool            // an earlier delivery may have run it
	derived     bool            // its id is of this message alone
	replyOnly   bool            // its result is not stored
	cause       cause

	stored  owner // of the stored result
	row     owner // of the ledger row
	started bool  // the row records the start of the job and no outcome
	refused bool  // the row records that the id was refused, as another request's

	known bool // this delivery's own execution at most once has an outcome that is perhaps not on record
	taken bool // the ledger has refused this delivery's row, as if it had one

	freed   bool // the ledger has a row of a job so old that the id is free again
	ordered bool // the job is of an ordered queue
}

// step is what to do next with a delivery.
type step uint8

const (
	execute           step = iota + 1
	finish                 // with what the cause says, on record first
	readResult             // read the stored result
	readRow                // read the ledger row
	recordOwn              // write the outcome that is known over the row of the start
	recordUnknown          // write over the row of the start that the outcome cannot be known
	refuse                 // record that the id is another request's
	reject                 // the id is another request's
	replayResult           // answer with the stored result
	replayRow              // answer with the ledger row
	storeUnderDerived      // store the row's answer under the derived id
	finishOvertaken        // find out under the derived id what became of an earlier delivery
	awaitRow               // the row that was in the way is gone: run the job again
)

// finishes reports whether the step finishes the delivery without an execution.
func (s step) finishes() bool {
	return s != execute && s != readResult && s != readRow && s != awaitRow
}

// meaning decides what a delivery means. It is called with what is known so far, again after each step that adds to it.
//
// Only a stored result of the same message is the answer immediately. One of another message does not rule out that this
// job's effect has happened: the ledger is asked first. Among ledger rows the first writer wins.
func (f *facts) meaning() step {
	switch {
	case f.stored == ours:
		return replayResult
	case f.cause == storedLate && f.stored > absent: // under the derived id
		return reject
	case f.stored == duplicate || f.stored == foreign:
		return f.conflict()
	case f.row == foreign:
		return reject
	case f.row == ours || f.row == duplicate:
		return f.recorded(replayRow)
	case f.taken && f.row == unread:
		return readRow
	case f.taken:
		return awaitRow
	case f.known:
		return recordOwn
	case f.stored == unread && f.mayBeStored():
		return readResult
	case f.row == unread && f.mayBeRecorded():
		return readRow
	case f.cause != mayRun:
		return finish
	default:
		return execute
	}
}

// conflict decides about a stored result that is not this message's.
func (f *facts) conflict() step {
	switch {
	case f.ledgered && f.row == unread:
		return readRow
	case f.row == ours:
		return f.recorded(storeUnderDerived)
	case f.stored == duplicate && !f.freed:
		return replayResult
	case f.effect == contract.AtLeastOnce && f.redelivered:
		return finishOvertaken
	case f.effect == contract.ExactlyOnce && f.ledgered && f.row == absent && f.cause == mayRun && !f.taken:
		// A job without a ledger row has left that result: the ledger alone decides about this one's effect, and its own
		// result goes under the derived id. A first delivery does the same, which does not look for a result.
		return execute
	case f.ledgered && f.row == absent:
		// That there is no row of ours proves nothing: the COMMIT of an earlier delivery may be under way. So the refusal is
		// recorded before it is published; either it finds our row, or that COMMIT finds the key taken.
		return refuse
	default:
		return reject
	}
}

// recorded decides about a ledger row of this message or of the same request; answer is for one with an outcome.
func (f *facts) recorded(answer step) step {
	switch {
	case f.started:
		return recordUnknown
	case f.refused:
		return reject
	default:
		return answer
	}
}

// mayBeStored reports whether a result has to be looked for before anything is done.
func (f *facts) mayBeStored() bool {
	switch f.cause {
	case failed:
		return false
	case undeliverable:
		return true
	case invalid:
		return f.redelivered || f.ledgered
	case invalidEverywhere, storedLate:
		return f.redelivered
	case preempted:
		if f.effect.Fenced() {
			return false // the row that is recorded first finds out
		}
	default:
	}
	switch {
	case f.replyOnly:
		return false
	case f.redelivered:
		return true
	case !f.effect.MayChange() || f.effect == contract.ExactlyOnce: // the ledger knows what the latter has to know
		return false
	default:
		return !f.derived
	}
}

// mayBeRecorded reports whether a ledger row has to be looked for before the job is executed.
func (f *facts) mayBeRecorded() bool {
	return f.cause == mayRun && f.redelivered && f.effect.Fenced()
}

// recordsFirst reports whether a ledger row is inserted before the job is finished with what the cause says. What no runner
// can accept has no row, and can get none: not on a redelivery either, whose row would differ from the result that the first
// delivery may be storing.
func (f *facts) recordsFirst() bool {
	return f.ledgered && (f.ordered || f.cause != storedLate && f.cause != invalidEverywhere)
}
