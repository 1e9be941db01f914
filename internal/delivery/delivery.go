package delivery

import (
	"context"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// Delivery is one delivery of a job's message.
type Delivery struct {
	jobs.Message

	Deliveries       uint64 // 1 for the first delivery of this consumer
	MaybeRedelivered bool   // not certainly the first delivery: the job may have had its effect already
	Trace            Trace  // follows it; nil: none

	// Ordered: it is of an ordered queue. Every outcome has its ledger row first.
	Ordered bool
	// Beside: it was asked for, as the first message of an ordered queue, and takes no slot.
	Beside bool
	// MayFinish is called before the delivery is finished without having started its job. An error makes the outcome Undecided. nil:
	// it may be finished.
	MayFinish func(ctx context.Context) error

	// Refuted is how often a probe found the database well after an execution had started and failed as if it were not.
	Refuted int

	// What this delivery has done so far: it may be run several times while its database comes and goes.
	attempts      uint64
	startedAt     time.Time
	startedBefore bool        // the delivery was in doubt before this one started anything
	sawUnknown    bool        // an execution ended without a server's answer
	suspicion     *db.Error   // how the last execution ended of those that Refuted may count; nil: there was none
	known         *completion // of its execution at most once; nil while none is known
	supersedes    time.Time   // ledger rows with the job's id that were recorded before are no answer; zero: none was seen
}
