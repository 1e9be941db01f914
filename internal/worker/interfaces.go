package worker

import (
	"context"
	"time"

	"dbrunner/internal/delivery"
	"dbrunner/internal/order"
	"dbrunner/internal/report"
)

// Intake is a durable consumer of one database's jobs stream.
type Intake interface {
	// Run pulls at most as many messages as credits were received, handing over each exactly once and one after
	// the other. It blocks until ctx ends, then stops pulling, requeues what it had received and not handed
	// over, or hands that over if the cause is report.ErrPaused, and returns; handle is not called any more then. It may be
	// run again afterwards, with new credits.
	Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, Message)) error
}

// Message holds the verbs of one delivered message.
type Message interface {
	// Ack acknowledges without waiting for the server's confirmation.
	Ack() error
	// AckConfirmed acknowledges and waits for the confirmation. An error means that the outcome is unknown.
	AckConfirmed(ctx context.Context) error
	// Nak hands the message back, to be delivered again after the delay.
	Nak(delay time.Duration) error
	// InProgress asks for another AckWait and waits for the confirmation.
	InProgress(ctx context.Context) error
}

// Executor runs deliveries; see delivery.Executor.
type Executor interface {
	Run(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome
	Taken(ctx context.Context, d *delivery.Delivery, out delivery.Outcome, existing []byte) delivery.Outcome
	// Preemption reports what finishes a delivery that is not started: a request to cancel it, or the time at which it
	// expires, zero if it does not.
	Preemption(d *delivery.Delivery) (canceled bool, expires time.Time)
}

// Order is the ordered queue of a lane; see package order.
type Order interface {
	// First returns the position of the queue's first message, from the stream's leader; nil: the queue is empty.
	First(ctx context.Context) (*order.Position, error)
	// Released returns the message that the operators' last record names; nil: there is none.
	Released(ctx context.Context) (*order.Position, error)
	// TakeUp asks for a message that comes before the one that the lane has: the lane's intake hands it over as a redelivery, without a
	// credit, unless another runner has it. It does not wait.
	TakeUp(sequence uint64)
	// Answered reports whether the job of a delivery has finished already, as far as that can be read.
	Answered(ctx context.Context, d *delivery.Delivery) bool
}

// Results is the store of one database's results.
type Results interface {
	delivery.ResultReader
	// Store writes a result unless its subject is taken: the first writer wins.
	Store(ctx context.Context, jobID string, body []byte) (report.StoreVerdict, error)
}

// Outbox publishes what leaves beside the stored results.
type Outbox interface {
	// Reply publishes to a validated reply subject, best effort.
	Reply(subject string, body []byte) error
	// PublishDeadLetter stores a dead letter; nil means that it is durable.
	PublishDeadLetter(ctx context.Context, d *delivery.Delivery, deadLetter *delivery.DeadLetter) error
}

// Prober reaches a database and verifies what jobs need there; see db.Database.
type Prober interface {
	// Probe returns nil when jobs may run. The error's text is safe to show.
	Probe(ctx context.Context) error
}

// Tracer follows deliveries, for those who want to see where their time goes.
type Tracer interface {
	// Start starts to follow a delivery that has just arrived. It is called for one after the other and must not block.
	Start(lane string, d *delivery.Delivery) Trace
}

// Trace follows one delivery. Its methods may be called from many goroutines.
type Trace interface {
	delivery.Trace
	// ID is the trace's id, for the log.
	ID() string
	// Context returns a context that says to which trace a published result belongs.
	Context(ctx context.Context) context.Context
	// End ends it. What is reported later means nothing.
	End(e report.Event)
}

// Observer gets the disposition of deliveries, for metrics. It is called from many goroutines concurrently and must not block.
type Observer interface {
	Finished(e report.Event)
}
