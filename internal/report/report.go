// Package report declares plain values that packages report to each other. They have no behavior beyond naming themselves.
package report

import "time"

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
