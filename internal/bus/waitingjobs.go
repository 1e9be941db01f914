package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// WaitingJobs calls each for the jobs in a database's queue, oldest first, until it returns false. A job is there until
// it is acknowledged.
func (c *Conn) WaitingJobs(ctx context.Context, database string, each func(*QueuedJob) bool) error {
	stream := c.subjects.JobsStream(database)
	for sequence := uint64(1); ; {
		m, err := c.GetMessage(ctx, stream, GetRequest{Sequence: sequence, NextFor: c.subjects.Job(database, "*")})
		if err != nil {
			return fmt.Errorf("read the queue of %s: %w", database, err)
		}
		if m == nil {
			return nil
		}
		job := &QueuedJob{Sequence: m.Sequence, Timestamp: m.Time, Body: m.Data}
		_, job.Kind, _ = c.subjects.SplitJob(m.Subject)
		if len(m.Headers) > 0 {
			if h, err := nats.DecodeHeadersMsg(m.Headers); err == nil {
				job.Headers = h
			}
		}
		if !each(job) {
			return nil
		}
		sequence = m.Sequence + 1
	}
}

// Delivered reports whether the consumer of a lane has delivered a message of a database's queue to a runner.
func (c *Conn) Delivered(ctx context.Context, database, lane string, sequence uint64) (bool, error) {
	info, err := c.consumerInfo(ctx, c.subjects.JobsStream(database), lane)
	if err != nil {
		return false, fmt.Errorf("read the consumer %s of %s: %w", lane, database, err)
	}
	return sequence <= info.Delivered.Stream, nil
}
