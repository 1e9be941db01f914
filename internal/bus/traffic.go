package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// headerMessageID makes JetStream drop a repetition within the stream's window.
const headerMessageID = contract.HeaderMessageID

// publishAttempts is how often a job is offered before nobody taking it counts as "unknown database or kind": a
// stream without a leader looks the same for a moment.
const publishAttempts = 4

// PublishJob publishes a job and returns its sequence once the stream has it. duplicate: a message with this id
// was there already, within the de-duplication window, by whomever. With an id (also set as Nats-Msg-Id) an
// unknown outcome is resolved by publishing again; without one it is an error. ErrNoStream: unknown database or
// kind. ErrStreamFull, ErrTooLarge, ErrDenied: as they say.
func (c *Conn) PublishJob(ctx context.Context, database, kind, id string, headers map[string][]string, body []byte) (
	sequence uint64, duplicate bool, err error,
) {
	if err := errors.Join(CheckName("database", database), CheckName("kind", kind)); err != nil {
		return 0, false, err
	}
	msg := nats.Msg{Subject: c.subjects.Job(database, kind), Header: make(nats.Header, len(headers)+1), Data: body}
	for name, values := range headers {
		msg.Header[name] = values
	}
	if id != "" {
		msg.Header[headerMessageID] = []string{id}
	}
	for attempt := 1; ; attempt++ {
		ack, err := c.pub.send(ctx, &msg)
		switch {
		case err == nil:
			return ack.Sequence, ack.Duplicate, nil
		case errors.Is(err, ErrNoStream) && attempt == publishAttempts:
			return 0, false, fmt.Errorf("publish to %s: %w: the database or the kind is unknown there", msg.Subject, err)
		case c.denied(msg.Subject):
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
	Kind      string
	Sequence  uint64
	Timestamp time.Time
	Headers   map[string][]string
	Body      []byte
}

// QueuedJob reads a message of a database's queue from the stream's leader; nil if it is not there, or not any more.
func (c *Conn) QueuedJob(ctx context.Context, database string, sequence uint64) (*QueuedJob, error) {
	m, err := c.GetMessage(ctx, c.subjects.JobsStream(database), GetRequest{Sequence: sequence})
	if m == nil || err != nil {
		return nil, err
	}
	job := &QueuedJob{Sequence: m.Sequence, Timestamp: m.Time, Body: m.Data}
	_, job.Kind, _ = c.subjects.SplitJob(m.Subject)
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
	if err := c.subjects.checkReply(subject, c.opts.InboxPrefix); err != nil {
		return err
	}
	if err := c.nc.Publish(subject, body); err != nil {
		return fmt.Errorf("publish the reply: %w", err)
	}
	return nil
}

// Oldest is the time of the oldest message that is still in the database's queue. Where the queue is empty found
// is false and the time is the server's own, read before it looked.
func (c *Conn) Oldest(ctx context.Context, database string) (oldest time.Time, found bool, err error) {
	info, err := c.streamInfo(ctx, c.subjects.JobsStream(database))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("oldest job of %s: %w", database, err)
	}
	if info.State.Msgs == 0 {
		return info.TimeStamp, false, nil
	}
	m, err := c.GetMessage(ctx, info.Config.Name, GetRequest{Sequence: max(info.State.FirstSeq, 1), NextFor: ">"})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("oldest job of %s: %w", database, err)
	}
	if m == nil { // the last one was done between the two looks
		return info.TimeStamp, false, nil
	}
	return m.Time, true, nil
}

// Queued reports whether a message is still in the database's queue: nobody has finished it.
func (c *Conn) Queued(ctx context.Context, database string, sequence uint64, stored time.Time) (bool, error) {
	m, err := c.GetMessage(ctx, c.subjects.JobsStream(database), GetRequest{Sequence: sequence})
	if err != nil {
		return false, fmt.Errorf("look for message %d of %s: %w", sequence, database, err)
	}
	return m != nil && m.Time.Equal(stored), nil
}

// MigrationProgress publishes where a database's migration is; the last one is kept.
func (c *Conn) MigrationProgress(ctx context.Context, database string, body []byte) error {
	if err := CheckName("database", database); err != nil {
		return err
	}
	if _, err := c.pub.send(ctx, &nats.Msg{Subject: c.subjects.Migration(database), Data: body}); err != nil {
		return fmt.Errorf("publish the progress of a migration: %w", err)
	}
	return nil
}

// againEvery is how often AwaitResult looks by itself: a re-published result is a core message and may be lost.
const againEvery = 3 * time.Second

// AwaitResult waits for the stored result of a job: it subscribes, then gets, then gets again every few seconds.
func (c *Conn) AwaitResult(ctx context.Context, database, jobID string) ([]byte, error) {
	if err := errors.Join(CheckName("database", database), checkID(jobID)); err != nil {
		return nil, err
	}
	arrivals := make(chan *nats.Msg, 1)
	sub, err := c.nc.ChanSubscribe(c.subjects.Result(database, jobID), arrivals)
	if err != nil {
		return nil, fmt.Errorf("await the result: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	results := c.Results(database)
	t := time.NewTicker(againEvery)
	defer t.Stop()
	for {
		body, err := results.GetDirect(ctx, jobID)
		switch {
		case err == nil && body != nil:
			return body, nil
		case err != nil && !IsTransient(err):
			return nil, err
		}
		select {
		case m := <-arrivals:
			return m.Data, nil
		case <-t.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("await the result of %s in %s: %w", jobID, database, errors.Join(ctx.Err(), err))
		}
	}
}
