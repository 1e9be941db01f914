package app

import (
	"context"
	"errors"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/ordered"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/order"
	"dbrunner/internal/worker"
)

// queueOrder is the worker.Order of one ordered queue.
type queueOrder struct {
	conn            *bus.Conn
	database, queue string
	intake          *laneIntake
	executor        *delivery.Executor
}

// orderOf returns the order of a lane; nil: its jobs have none.
func orderOf(conn *bus.Conn, database string, l *jobs.Lane, in *laneIntake, executor *delivery.Executor) worker.Order {
	if !l.Ordered {
		return nil
	}
	return &queueOrder{conn: conn, database: database, queue: l.Queue, intake: in, executor: executor}
}

// First returns the position of the queue's first message.
func (o *queueOrder) First(ctx context.Context) (*order.Position, error) {
	m, err := ordered.First(ctx, o.conn, o.database, o.queue)
	if m == nil || err != nil {
		return nil, err
	}
	return &order.Position{Sequence: m.Sequence, Stored: m.Time}, nil
}

// Released returns the message that the operators' last record names. Without the bucket there is none.
func (o *queueOrder) Released(ctx context.Context) (*order.Position, error) {
	record, err := ordered.Resumed(ctx, o.conn, o.database, o.queue)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if record == nil || err != nil {
		return nil, err
	}
	return &order.Position{Sequence: record.Sequence, Stored: record.QueuedAt}, nil
}

// Answered reports whether the job of a delivery has finished already.
func (o *queueOrder) Answered(ctx context.Context, d *delivery.Delivery) bool {
	return o.executor.Answered(ctx, d)
}

// TakeUp asks for a message that the consumer does not deliver.
func (o *queueOrder) TakeUp(sequence uint64) { o.intake.takeUp(sequence) }
