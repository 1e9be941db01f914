package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// publishAttempts is how often a job is offered before a missing acknowledgment counts as "unknown database or kind": a
// stream without a leader looks the same for a moment.
const publishAttempts = 4

// PublishJob publishes a job and returns its sequence once the stream has it. duplicate: a message with this id
// was there already, within the de-duplication window, by whomever. With an id (also set as Nats-Msg-Id) an
// unknown outcome is resolved by publishing again; without one it is an error. ErrNoStream: unknown database or
// kind. ErrStreamFull, ErrTooLarge, ErrDenied: as they say.
func PublishJob(ctx context.Context, c *Conn, database, kind, id string, headers map[string][]string, body []byte) (
	sequence uint64, duplicate bool, err error,
) {
	first, name, named := strings.Cut(kind, ".")
	err = errors.Join(CheckName("database", database), CheckName("kind", first))
	if named {
		err = errors.Join(err, CheckName("name", name))
	}
	if err != nil {
		return 0, false, err
	}
	msg := nats.Msg{Subject: c.subjects.Job(database, kind), Header: make(nats.Header, len(headers)+1), Data: body}
	for name, values := range headers {
		msg.Header[name] = values
	}
	if id != "" {
		msg.Header[contract.HeaderMessageID] = []string{id}
	}
	for attempt := 1; ; attempt++ {
		ack, err := c.pub.send(ctx, &msg)
		switch {
		case err == nil:
			return ack.Sequence, ack.Duplicate, nil
		case errors.Is(err, ErrNoStream) && attempt == publishAttempts:
			return 0, false, fmt.Errorf("publish to %s: %w: the database or the kind is unknown there", msg.Subject, err)
		case c.Refused(msg.Subject):
			return 0, false, fmt.Errorf("publish to %s: %w", msg.Subject, ErrDenied)
		case !uncertain(err) || errors.Is(err, errNoAnswer) && id == "":
			return 0, false, fmt.Errorf("publish to %s: %w", msg.Subject, err)
		}
		if waitErr := c.AwaitLink(ctx); waitErr != nil {
			return 0, false, fmt.Errorf("publish to %s: %w", msg.Subject, waitErr)
		}
		if waitErr := Pause(ctx, Backoff(attempt, 100*time.Millisecond, time.Second)); waitErr != nil {
			return 0, false, fmt.Errorf("publish to %s: %w", msg.Subject, errors.Join(waitErr, err))
		}
	}
}

// QueuedJob is a message of a jobs stream that is still there.
type QueuedJob struct {
	Queue     string // that it waits in; empty: none
	Kind      string
	Name      string // of what the job runs, from its subject; mostly empty
	Sequence  uint64
	Timestamp time.Time
	Headers   map[string][]string
	Body      []byte
}

// End returns the end of the job's subject, behind the database.
func (j *QueuedJob) End() string {
	if j.Name == "" {
		return j.Kind
	}
	return j.Kind + "." + j.Name
}

// ReadJob reads a message of a database's queue from the stream's leader; nil if it is not there, or not any more.
func ReadJob(ctx context.Context, c *Conn, database string, sequence uint64) (*QueuedJob, error) {
	m, err := GetMessage(ctx, c, c.subjects.JobsStream(database), GetRequest{Sequence: sequence})
	if m == nil || err != nil {
		return nil, err
	}
	job := &QueuedJob{Sequence: m.Sequence, Timestamp: m.Time, Body: m.Data}
	of, _ := c.subjects.SplitJob(m.Subject)
	job.Queue, job.Kind, job.Name = of.Queue, of.Kind, of.Name
	if len(m.Headers) > 0 {
		if job.Headers, err = nats.DecodeHeadersMsg(m.Headers); err != nil {
			return nil, fmt.Errorf("read message %d of %s: %w", sequence, database, err)
		}
	}
	return job, nil
}

// Reply publishes a copy of a result to the subject that the publisher asked for: best effort, without an answer.
// The subject was validated with its job; this refuses once more what could do harm.
func (c *Conn) Reply(subject string, body []byte) error {
	if err := c.CheckReply(subject); err != nil {
		return err
	}
	if err := c.nc.Publish(subject, body); err != nil {
		return fmt.Errorf("publish the reply: %w", err)
	}
	return nil
}

// OldestJob is the time of the oldest message that is still in the database's stream. Where the stream is empty found
// is false and the time is the server's own, read before it looked.
func OldestJob(ctx context.Context, c *Conn, database string) (oldest time.Time, found bool, err error) {
	info, err := StreamInfo(ctx, c, c.subjects.JobsStream(database))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("oldest job of %s: %w", database, err)
	}
	if info.State.Msgs == 0 {
		return info.TimeStamp, false, nil
	}
	oldest, found, err = oldestOf(ctx, c, database, max(info.State.FirstSeq, 1), ">")
	if err == nil && !found { // the last one was done between the two looks
		oldest = info.TimeStamp
	}
	return oldest, found, err
}

// OldestIn is the time of the oldest message of a queue that is still in the database's stream; of no queue if it is empty.
func OldestIn(ctx context.Context, c *Conn, database, queue string) (oldest time.Time, found bool, err error) {
	filter := c.subjects.Job(database, ">")
	if queue != "" {
		filter = c.subjects.Queue(database, queue) + ".>"
	}
	return oldestOf(ctx, c, database, 1, filter)
}

func oldestOf(ctx context.Context, c *Conn, database string, from uint64, filter string) (time.Time, bool, error) {
	m, err := GetMessage(ctx, c, c.subjects.JobsStream(database), GetRequest{Sequence: from, NextFor: filter})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("oldest job of %s: %w", database, err)
	}
	if m == nil {
		return time.Time{}, false, nil
	}
	return m.Time, true, nil
}

// IsQueued reports whether a message is still in the database's queue: no runner has finished it.
func IsQueued(ctx context.Context, c *Conn, database string, sequence uint64, stored time.Time) (bool, error) {
	m, err := GetMessage(ctx, c, c.subjects.JobsStream(database), GetRequest{Sequence: sequence})
	if err != nil {
		return false, fmt.Errorf("read message %d of %s: %w", sequence, database, err)
	}
	return m != nil && m.Time.Equal(stored), nil
}

// PublishMigration publishes where a database's migration is; the last one is kept.
func PublishMigration(ctx context.Context, c *Conn, database string, body []byte) error {
	if err := CheckName("database", database); err != nil {
		return err
	}
	if _, err := c.pub.send(ctx, &nats.Msg{Subject: c.subjects.Migration(database), Data: body}); err != nil {
		return fmt.Errorf("publish the progress of a migration: %w", err)
	}
	return nil
}

// ListJobs calls each for the jobs in a database's stream, those of its queues included, oldest first, until it returns false. A job is there until
// it is acknowledged.
func ListJobs(ctx context.Context, c *Conn, database string, each func(*QueuedJob) bool) error {
	stream := c.subjects.JobsStream(database)
	for sequence := uint64(1); ; {
		m, err := GetMessage(ctx, c, stream, GetRequest{Sequence: sequence, NextFor: ">"})
		if err != nil {
			return fmt.Errorf("read the queue of %s: %w", database, err)
		}
		if m == nil {
			return nil
		}
		job := &QueuedJob{Sequence: m.Sequence, Timestamp: m.Time, Body: m.Data}
		of, _ := c.subjects.SplitJob(m.Subject)
		job.Queue, job.Kind, job.Name = of.Queue, of.Kind, of.Name
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

// WasDelivered reports whether the consumer of a lane has delivered a message of a database's queue to a runner.
func WasDelivered(ctx context.Context, c *Conn, database, lane string, sequence uint64) (bool, error) {
	info, err := ConsumerInfo(ctx, c, c.subjects.JobsStream(database), lane)
	if err != nil {
		return false, fmt.Errorf("read the consumer %s of %s: %w", lane, database, err)
	}
	return sequence <= info.Delivered.Stream, nil
}
