package jobs

import (
	"context"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// Message is a job's message as its stream has it.
type Message struct {
	Database  string // from the subject
	Queue     string // from the subject; empty: it is in none
	Kind      string // from the subject
	Name      string // from the subject, of what the job runs; mostly empty
	Subject   string // whole
	Sequence  uint64
	Timestamp time.Time // when the stream took the message, nanoseconds, UTC
	Headers   map[string][]string
	Body      []byte
}

// DerivedID is the job id of a message whose publisher gave none.
func (m *Message) DerivedID() string { return contract.DerivedID(m.Sequence, m.Timestamp) }

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
	Call      *contract.Call // nil if the job is no call
	Hash      []byte         // the request hash: what the request is, however it was written

	// Rereads: each execution reads what became of the ones before it, so that these leave no doubt.
	Rereads bool

	rows bool // the kind's rows may go outside of the result
	work work
}

// Run executes the job's work and returns the kind's own keys of its result; with an error, those of a failed job's.
func (j *Job) Run(ctx context.Context, x *Execution) (Answer, error) {
	x.job = j
	return j.work.run(ctx, x)
}

// Statements is the number of the job's statements.
func (j *Job) Statements() int { return j.work.size() }

// LeavesPartialEffects reports whether parts of what the job had done stay when it is stopped.
func (j *Job) LeavesPartialEffects() bool {
	w, ok := j.work.(interface{ leavesPartialEffects() bool })
	return ok && w.leavesPartialEffects()
}

// work is the part of a job that is its kind's own: a kind is one file that implements it and one line in the
// table of kinds.
type work interface {
	// size is the number of statements.
	size() int
	// hash appends the canonical encoding of all of the kind's own keys.
	hash(h []byte) []byte
	// run executes the work and returns the kind's own keys of the result; with an error, those of a failed job's.
	run(ctx context.Context, x *Execution) (Answer, error)
}

// Execution is one execution of a job's work: what the kinds need of a database, and what this delivery adds.
type Execution struct {
	Database   db.Executor
	Outside    AutocommitExecutor // runs statements outside of transactions in place of Database; nil: Database does
	Migrations Migrator           // nil: jobs of kind migration fail
	Health     HealthChecker      // nil: jobs of kind health fail

	Message *Message
	Call    db.Call
	Rows    db.RowOptions
	// MaxAffected is the largest number of rows that a transaction may write here; 0: no limit. A job has a lower one or this.
	MaxAffected int64
	// Shared lets a transaction that may share a commit do so in this execution.
	Shared bool
	Seal   func(ctx context.Context, a Answer) (*db.Entry, error) // of work with effect exactly_once, see db.BeforeCommit; nil: no ledger row
	Once   *Once                                                  // of work with effect at_most_once; otherwise nil

	job *Job // that is executed
}

// Once is what work that happens at most once leaves on record; see db.Once.
type Once struct {
	Start *db.Entry
	End   func(ctx context.Context, a Answer, err error) *db.Entry
}

// Answer is the kind's own members of a result. The zero Answer has none.
type Answer struct {
	contract.Answer

	Filled bool
	Size   int // about what they take, bytes

	free func() // gives back the memory of the rows; nil: nothing to give back
}

// Release ends the answer: its rows may not be read any more.
func (a Answer) Release() {
	if a.free != nil {
		a.free()
	}
}
