package jobs

import (
	"context"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// Delivery is one delivery of a job's message, with everything that its identity hangs on.
type Delivery struct {
	Database         string // from the subject
	Kind             string // from the subject
	Sequence         uint64
	Timestamp        time.Time // when the stream took the message, nanoseconds, UTC
	Deliveries       uint64    // 1 for the first delivery of this consumer
	MaybeRedelivered bool      // not certainly the first delivery: the job may have had its effect already
	Headers          map[string][]string
	Body             []byte
	Trace            Trace // who follows it; nil: nobody

	// Refuted is how often a probe found the database well after an execution had begun and ended as if it were not.
	Refuted int

	// What this delivery has done so far: it may be run several times while its database comes and goes.
	attempts    uint64
	startedAt   time.Time
	begunBefore bool        // the delivery was in doubt before this one began anything
	sawUnknown  bool        // an execution ended without a server's answer
	suspicion   *db.Error   // how the last execution ended of those that Refuted may count; nil: there was none
	known       *completion // of its execution at most once; nil while none is known
}

// Job is a decoded and valid job.
type Job struct {
	ID        string
	DerivedID bool // the publisher gave no id
	Database  string
	Kind      string
	Effect    contract.Effect
	ReplyTo   string
	ReplyOnly bool          // answer: reply
	Timeout   time.Duration // resolved against the policy
	ExpiresAt time.Time     // zero = never
	RowFormat db.RowFormat
	MaxRows   int64 // that the job allows itself; 0 = no limit of its own
	Output    Output
	Labels    map[string]string
	Hash      []byte // the request hash: what the request is, however it was written
	rows      bool   // the kind's rows may go outside of the result
	rereads   bool   // each execution reads what became of the ones before
	work      work
}

// work is the part of a job that is its kind's own: a kind is one file that implements it and one line in the
// table of kinds.
type work interface {
	// size is the number of statements.
	size() int
	// hash appends the canonical encoding of all of the kind's own keys.
	hash(h []byte) []byte
	// run executes the work and returns the kind's own keys of the result; with an error, those of a failed job's.
	run(ctx context.Context, x *execution) (answer, error)
}

// execution is one execution of a job's work.
type execution struct {
	opts *ExecutorOptions // the database, and whatever else a kind needs
	d    *Delivery
	call db.Call
	rows db.RowOptions
	seal sealAnswer
	once *once
	last error // of the execution before
}

// answer is the kind's own members of a result. The zero answer has none.
type answer struct {
	contract.Answer
	filled bool
	size   int    // about what they take, bytes
	free   func() // gives back the memory of the rows; nil: nothing to give back
}

// release ends the answer: its rows may not be read any more.
func (a answer) release() {
	if a.free != nil {
		a.free()
	}
}

// sealAnswer is called by work.run in the open transaction with the answer it is about to give; see db.Seal.
// nil when the job has no ledger row and needs no look before its end.
type sealAnswer func(ctx context.Context, a answer) (*db.Entry, error)
