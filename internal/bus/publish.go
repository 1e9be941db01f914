package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/report"
)

// HeaderExpectedSequence makes a stream refuse a message whose subject has another last sequence.
const HeaderExpectedSequence = "Nats-Expected-Last-Subject-Sequence"

// Publish publishes once and waits until the stream has the message. ErrNoStream: no stream takes the subject. An
// *APIError: the stream refused it. Any other error: it may have it.
func (c *Conn) Publish(ctx context.Context, msg *nats.Msg) (Ack, error) { return c.pub.send(ctx, msg) }

// Post publishes once and does not wait for the answer. The message's payload may be used again immediately. settle is called when as
// many publishes as may be are under way, and waits for those of the caller: who waited for a place and kept others meanwhile
// could wait indefinitely for callers that do the same. Its error is returned.
func (c *Conn) Post(ctx context.Context, msg *nats.Msg, settle func() error) (Posted, error) {
	return c.pub.post(ctx, msg, settle)
}

// Request sends a small question to JetStream and returns the answer.
func (c *Conn) Request(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	return c.pub.ask(ctx, msg)
}

// PublishCertainly publishes a message that is safe to repeat until its outcome is known, or the context ends.
func (c *Conn) PublishCertainly(ctx context.Context, msg *nats.Msg) error {
	return c.publishUntil(ctx, msg, func(err error) (bool, error) { return uncertain(err), err })
}

// PublishFirst publishes a message that expects its subject to be empty (HeaderExpectedSequence 0), until the outcome
// is known or the context ends. So Taken may mean our own earlier attempt: the caller compares the bytes.
func (c *Conn) PublishFirst(ctx context.Context, msg *nats.Msg) (report.StoreVerdict, error) {
	var verdict report.StoreVerdict
	err := c.publishUntil(ctx, msg, func(err error) (again bool, _ error) {
		verdict, again, err = storeVerdict(err)
		return again, err
	})
	return verdict, err
}

// storeVerdict reads the answer to a publish with an expected sequence. again: it is not known yet, publish again.
func storeVerdict(err error) (verdict report.StoreVerdict, again bool, _ error) {
	var api *APIError
	switch {
	case err == nil:
		return report.Stored, false, nil
	case errors.As(err, &api):
		switch {
		case api.ErrCode == CodeWrongLastSequence || api.perSubject():
			return report.Taken, false, nil
		case api.ErrCode == CodeWriteInFlight:
			return 0, true, err // another write to the subject waits for its quorum: it may still fail
		case errors.Is(api, ErrStreamFull):
			return report.Full, false, nil
		}
	}
	return 0, uncertain(err), err
}

// uncertain reports whether a publish that is safe to repeat should be.
func uncertain(err error) bool {
	return errors.Is(err, errNoAnswer) || errors.Is(err, ErrNoStream) || Transient(err)
}

// publishUntil publishes a message that is safe to repeat until judge reports that its outcome is known, or the
// context ends. Without a link it waits for one: what is sent into a lost one would come again behind our back.
func (c *Conn) publishUntil(ctx context.Context, msg *nats.Msg, judge func(error) (again bool, _ error)) error {
	for attempt := 0; ; attempt++ {
		if err := c.AwaitLink(ctx); err != nil {
			return err
		}
		_, err := c.pub.send(ctx, msg)
		again, err := judge(err)
		if !again {
			return err
		}
		if waitErr := Pause(ctx, Backoff(attempt, 2*time.Millisecond, time.Second)); waitErr != nil {
			return errors.Join(waitErr, err)
		}
	}
}
