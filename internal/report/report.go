// Package report declares plain values that packages report to each other. They have no behavior beyond naming themselves.
package report

import (
	"errors"
	"time"

	"dbrunner/contract"
)

// StoreVerdict is what happened to a result that was offered to the results stream.
type StoreVerdict uint8

// The verdicts.
const (
	Stored StoreVerdict = iota + 1 // the result is durable and was published
	Taken                          // the subject has a result already, perhaps this very one
	Full                           // the stream or the account is full; nothing was stored
)

// String returns the verdict as a word.
func (v StoreVerdict) String() string {
	switch v {
	case Stored:
		return "stored"
	case Taken:
		return "taken"
	case Full:
		return "full"
	}
	return "unknown"
}

// Step is a part of the path of one delivery.
type Step uint8

// The steps.
const (
	StepNone    Step = iota // between two steps
	StepDecode              // decoding and validation of the body
	StepAcquire             // wait for a connection
	StepExecute             // statements, ledger row, COMMIT
	StepPublish             // stored result, reply, dead letter, acknowledgment
)

// Lag is how far a lane's consumer is behind, in the whole fleet.
type Lag struct {
	Pending     uint64    // jobs that were not delivered yet
	AckPending  int       // jobs delivered and not acknowledged
	Redelivered int       // of those, delivered more than once
	At          time.Time // when it was requested; zero: never
}

// Pool describes a connection pool at one moment.
type Pool struct {
	Max, Total, Idle, InUse, Waiting int
	Acquires                         int64         // connections given out
	CanceledAcquires                 int64         // waits that were given up
	AcquireWait                      time.Duration // total time that calls waited for a connection, given up or not
	LongestWait                      time.Duration // how long the first of the waiting calls has waited
}

// Disposition is how a delivery left the runner.
type Disposition uint8

// The dispositions.
const (
	Settled     Disposition = iota + 1 // its job has finished
	Drained                            // requeued: the runner stops, and it was not started
	Stopped                            // requeued: the runner stops, and it was cancelled
	Unreachable                        // requeued: its database does not answer
	Panicked                           // requeued: a defect of the runner's own
	NoSlot                             // requeued: it came without a slot for it
	LeaseLost                          // left to expire: another runner may have it
	Gone                               // left alone: its message is not in its ordered queue any more, or not the first one
)

var dispositions = [...]string{
	Settled: "settled", Drained: "drained", Stopped: "stopped", Unreachable: "unreachable",
	Panicked: "panic", NoSlot: "no_slot", LeaseLost: "lease_lost", Gone: "gone",
}

// Dispositions is one more than the last disposition.
const Dispositions = len(dispositions)

// String returns a stable word for logs and metrics.
func (d Disposition) String() string { return dispositions[d] }

// Event is the end of one delivery.
type Event struct {
	Database, Lane, Kind string
	Call                 string // name of what the job runs, where its kind has names

	Disposition Disposition
	JobID       string          // of a settled job
	Status      contract.Status // of a settled job
	Code        string          // error.code of a settled job
	Duplicate   bool            // an earlier result was the answer
	Recorded    bool            // the answer was in the ledger before
	DeadLetter  string          // the reason of the dead letter that was stored; empty: none was
	Ran         time.Duration   // in the executor, the wait for a connection included; of a settled job
	Deliveries  uint64
	Attempts    uint64        // executions started by this delivery
	Queued      time.Duration // from the stream's timestamp to the arrival here
	SlotsInUse  time.Duration // from the arrival here to the verb
}

// Lane is a lane at one moment, and what it has done since it started.
type Lane struct {
	Name       string
	Queue      string // whose jobs it runs; empty: it is no queue's
	Slots      int    // at most
	SlotsInUse int    // slots taken
	Settling   int    // finished deliveries besides, whose results are being published

	Paused  bool // by an operator
	Started int  // deliveries in flight whose jobs were started; counted while it is paused

	Settled         map[contract.Status]int64
	Ended           map[string]int64 // deliveries by disposition
	Duplicates      int64            // settled with the answer of an earlier result
	Taken           int64            // results that met one stored already
	LeasesLost      int64            // among them those of jobs that were settled all the same
	RepliesLost     int64
	DeadLettersLost int64
	Panics          int64

	IntakeError string // why no messages come; empty: they do

	Failed *contract.FailedJob // of an ordered queue: the job that keeps it waiting, if this runner has it; nil: none
}

// Gate is the gate of a database's lanes at one moment.
type Gate struct {
	Open        bool
	Unreachable string    // why the database is held; empty: it answers
	Since       time.Time // of Unreachable
	ResultsFull bool      // the results stream has no room
	FullSince   time.Time
}

// Sweep is how the cleanup of one ledger stands.
type Sweep struct {
	At      time.Time // end of the last sweep, this runner's clock; zero: none yet
	Error   string    // of the last sweep; empty: it succeeded
	Deleted int64     // rows since the start
	Before  time.Time // rows recorded before it are deleted
	// HeldBackBy is the timestamp of the oldest message in the stream, if it holds the cleanup back; else zero.
	HeldBackBy time.Time
}

// Outbox is how the outbox of a database stands, as one runner sees it.
type Outbox struct {
	Relayed uint64    // rows that this runner has published and deleted
	Counted bool      // the numbers below are known
	Waiting int       // rows that are not published yet, at most 10,000
	Failed  int       // rows with an error, at most 10,000
	Oldest  time.Time // when the oldest waiting row was inserted; zero: none waits
	Failing bool      // rows wait because the table cannot be used, or targets refuse them
	Trouble string    // what an operator should look at; empty: nothing
}

// OutboxMessage is a job that is published for a row of an outbox.
type OutboxMessage struct {
	Target   string // the subject behind the namespace
	ID       string // Nats-Msg-Id
	StoredBy time.Time
	Body     []byte
}

// ErrTooLarge is the error of a message that no stream will ever accept.
var ErrTooLarge = errors.New("the message is larger than the stream accepts")

// Pause is an operator's pause that a runner obeys.
type Pause struct {
	contract.ActivePause
	Since time.Time // when the record was stored, by the server's clock
}

// Ticks are ticks of schedules that a runner has settled since its start.
type Ticks struct{ Fired, Missed, Skipped, Unconfirmed uint64 }

// ErrPaused is the cause with which an intake is stopped because its lane is paused: it hands over what it has received,
// instead of requeuing it.
var ErrPaused = errors.New("the lane is paused")
