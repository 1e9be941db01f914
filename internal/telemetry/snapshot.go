package telemetry

import (
	"time"

	"dbrunner/internal/report"
)

// Source reports how the runner is at this moment, from memory: it makes no request and never waits.
type Source interface {
	Snapshot() Snapshot
}

// Snapshot is a runner at one moment.
type Snapshot struct {
	Ready     bool
	Draining  bool
	NATS      Link
	Dead      *DeadLetters // nil: not known yet
	Databases []Database
}

// Link is the connection to NATS.
type Link struct {
	Connected  bool
	Reconnects uint64
	Denied     int // subjects of its own that the server has refused

	DeniedReplies uint64 // answers to subjects that their requesters chose and the server refused
}

// DeadLetters is the stream of dead letters when it was last looked at.
type DeadLetters struct {
	Kept    uint64
	Evicted uint64 // seen to go because the stream was full
	At      time.Time
}

// Database is one database as the runner sees it.
type Database struct {
	Name, Engine string
	Up           bool   // it answers
	ResultsFull  bool   // its results stream has no room
	Paused       bool   // by an operator
	Catalog      string // hash of its catalog; empty: it has none
	Lanes        []report.Lane
	Pool         report.Pool
	Purged       uint64         // results removed before their maximum age
	Ledger       *report.Sweep  // nil: it has none
	Outbox       *report.Outbox // nil: no rows are relayed from here
	Queue        *Queue         // nil: not known yet
	Schedules    *Schedules     // nil: none are tracked
}

// Schedules are the schedules of a database as the runner sees them.
type Schedules struct {
	Total, Paused, Finished, Failing int
	Overdue                          float64 // seconds that the oldest tick that is due has not been settled
	Ticks                            report.Ticks
}

// Queue is a database's streams when they were last looked at.
type Queue struct {
	Lanes       []LaneQueue
	Oldest      []OldestJob // of no queue, and of each queue
	ResultsUsed float64     // share of the results stream's limits, 0 to 1
	At          time.Time
}

// OldestJob is the oldest job of a queue that is not acknowledged.
type OldestJob struct {
	Queue  string    // empty: of no queue
	Stored time.Time // zero: there is none
}

// LaneQueue is one lane's part of a queue, of the whole fleet.
type LaneQueue struct {
	Name string
	report.Lag
}
