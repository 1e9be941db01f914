package main

import (
	"fmt"
	"strings"

	"dbrunner/contract"
)

// next is what a flow does after a job's end.
type next string

const (
	done   next = "go on"
	repeat next = "try again under a new id"
	mend   next = "mend the job or the data, then start a new run"
	stop   next = "stopped on request: start a new run if it is wanted after all"
	late   next = "too late: nothing was done, start a new run if it is still wanted"
	ask    next = "look at the database, a person has to decide: it may have taken effect"
)

// decide returns what to do after a job's end. The statuses are all that there are; one that this flow does not know yet
// is treated like the worst.
func decide(result *contract.Result) next {
	switch result.Status {
	case contract.Succeeded:
		return done
	case contract.Failed:
		// Rolled back, or never run: nothing of a query or a transaction is there. (A job of kind statement has no
		// rollback: what it had done until then may remain, and docs/messages.md says where to look.) The runner has
		// repeated already what could be repeated immediately; retryable says that the same may succeed later. It needs
		// another id: this one keeps its result.
		if result.Error != nil && result.Error.Retryable {
			return repeat
		}
		return mend
	case contract.Rejected:
		// Not understood, or not allowed: nothing was run, and the same again is rejected again. The faults say what to
		// write instead. It is a mistake in this program or in the permissions, so that no flow should try again.
		return mend
	case contract.Canceled:
		// It was cancelled, perhaps by this flow itself after its timeout. It has no effect. Sending it again
		// would overrule the user who cancelled it.
		return stop
	case contract.Expired:
		// Its time was over before it started. It has no effect; the caller who set the time decides whether it is still wanted.
		return late
	default:
		// unknown: it may have taken effect, and nothing on record says so. Never repeat it blindly: look at the database
		// for the effect, then go on or publish it under a new id. Jobs of effect exactly_once and read_only never end
		// so; those of at_most_once and at_least_once may.
		return ask
	}
}

// String returns one line about a step that did not succeed, and what to do.
func (o *outcome) String() string {
	text := fmt.Sprintf("%s on %s %s", o.result.JobID, o.step.database, o.result.Status)
	if o.result.Error != nil {
		text += fmt.Sprintf(": %s (%s)", o.result.Error.Message, o.result.Error.Code)
		for _, fault := range o.result.Error.Faults {
			text += fmt.Sprintf("; %s: %s", fault.Path, fault.Message)
		}
	}
	return strings.TrimSpace(text) + " → " + string(o.next)
}
