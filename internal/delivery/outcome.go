package delivery

import (
	"context"

	"dbrunner/contract"
)

// ResultReader reads stored results of one database.
type ResultReader interface {
	// StoredResult returns the stored result of a job from where the truth is (the stream's leader), nil if there is
	// none.
	StoredResult(ctx context.Context, jobID string) ([]byte, error)
	// HasResult reports whether a job has a stored result, for less: its answer may lag behind the leader's, so that
	// nothing may be decided by it that a result stored meanwhile would not undo.
	HasResult(ctx context.Context, jobID string) (bool, error)
}

// Action is what the worker has to do with a delivery.
type Action uint8

// The actions.
const (
	// Settle: the job has ended. Do what Outcome says in its order (store, reply, dead letter), each durable
	// before the next, then acknowledge the message.
	Settle Action = iota + 1
	// AwaitDatabase: the database cannot be reached, as far as this job knows. Keep the message and run it again when the database
	// is back.
	AwaitDatabase
	// Undecided: nothing was decided: the context ended, Begin refused, or the stored results cannot be read. Whether
	// the message may be requeued is for the worker to know (never after a lost lease).
	Undecided
)

// Outcome is what the running of one delivery came to.
type Outcome struct {
	Action  Action
	Status  contract.Status // of the job; empty unless Action is Settle
	JobID   string
	Code    string // error.code of the answer, for logs and metrics; empty on success
	Started bool   // this delivery started an execution
	// MayBeCause: with AwaitDatabase, the execution had started, so that the job's own statements may be the cause. If the database
	// answers others, Delivery.Refuted is to be raised.
	MayBeCause bool
	// Duplicate: the answer is an earlier end's, nothing was executed for it.
	Duplicate bool
	// Recorded: the answer was in the ledger before.
	Recorded bool

	Store      *Publication // the result to store, first writer wins; nil: none, or it is stored already
	Reply      *Publication // the convenience answer to the publisher's own subject; nil: none
	DeadLetter *DeadLetter  // the dead letter; nil: none

	// Reason is why the job waits for its database (AwaitDatabase), why the ledger did not take its row (Undecided), or which defect of
	// the runner's own ended the job (CodeInternal). Its text is safe to show.
	Reason error

	run        *run       // that came to it; nil if there is no completion
	completion completion // whose body Store and Reply have
}

// Release gives the outcome's result back when it is published, or never will be: nothing of it may be read any more.
func (o *Outcome) Release() {
	if o.run != nil {
		o.completion.release(&o.run.e.bodies)
	}
	o.Store, o.Reply, o.run = nil, nil, nil
}

// Publication is a message to publish. For a stored result Key is the job id, for a reply the subject.
type Publication struct {
	Key  string
	Body []byte
}

// DeadLetter is a dead letter: the job's body goes along unchanged.
type DeadLetter struct {
	DerivedID string // last token of its subject
	JobID     string
	Reason    string // a status or a code
	Code      string // error.code of the answer
	Message   string // for people
	Faults    []byte // JSON array, may be nil
	ResultID  string // where the stored result is, empty if there is none
}
