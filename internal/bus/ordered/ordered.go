package ordered

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// First returns the first message of a queue, from the stream's leader; nil: the queue is empty.
func First(ctx context.Context, c *bus.Conn, database, queue string) (*bus.StoredMessage, error) {
	s := c.Subjects()
	m, err := bus.GetMessage(ctx, c, s.JobsStream(database), bus.GetRequest{Sequence: 1, NextFor: s.Queue(database, queue) + ".>"})
	if err != nil {
		return nil, fmt.Errorf("read the first message of queue %s of database %s: %w", queue, database, err)
	}
	return m, nil
}

// Resumed returns the last record of a queue; nil: there is none, or none that can be read. bus.ErrNotFound: there is no bucket.
func Resumed(ctx context.Context, c *bus.Conn, database, queue string) (*contract.QueueResume, error) {
	key := contract.ResumeKey(database, queue)
	m, err := bus.GetMessage(ctx, c, bus.StateStream(c.Subjects()), bus.GetRequest{LastFor: bus.StateKey(c.Subjects(), key)})
	if err != nil {
		return nil, fmt.Errorf("read the record %s: %w", key, err)
	}
	if m == nil || len(m.Data) == 0 { // deleted
		return nil, nil
	}
	record, err := contract.ReadResume(m.Data)
	if err != nil {
		return nil, fmt.Errorf("read the record %s: %w", key, err)
	}
	return &record, nil
}

// Resume stores a record. bus.ErrNotFound: there is no bucket. bus.ErrStreamFull: it is full.
func Resume(ctx context.Context, c *bus.Conn, database, queue string, record contract.QueueResume) error {
	value, err := contract.EncodeResume(record)
	if err != nil {
		return err
	}
	if _, err := bus.StreamInfo(ctx, c, bus.StateStream(c.Subjects())); err != nil {
		return fmt.Errorf("read the bucket of the record: %w", err)
	}
	msg := nats.Msg{Subject: bus.StateSubject(c, contract.ResumeKey(database, queue)), Data: value}
	if err := c.PublishCertainly(ctx, &msg); err != nil {
		return fmt.Errorf("store the record of the resume: %w", err)
	}
	return nil
}

// Await waits until a message is not the first one of its queue any more, and reports whether that is so.
func Await(ctx context.Context, c *bus.Conn, database, queue string, sequence uint64, stored time.Time) (bool, error) {
	for {
		m, err := First(ctx, c, database, queue)
		if err != nil {
			return false, err
		}
		if m == nil || m.Sequence != sequence || !m.Time.Equal(stored) {
			return true, nil
		}
		if bus.Pause(ctx, 100*time.Millisecond) != nil {
			return false, nil
		}
	}
}
