package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/report"
)

// HeaderExpectedSubjectSequence lets a stream take a message only if the last one of its subject has this sequence; "0": if
// there is none.
const HeaderExpectedSubjectSequence = "Nats-Expected-Last-Subject-Sequence"

// StoreVerdict is what a stream did with a message that may only be the first of its subject.
type StoreVerdict = report.StoreVerdict

// The verdicts.
const (
	Stored = report.Stored
	Taken  = report.Taken
	Full   = report.Full
)

// PublishFirst publishes a message with HeaderExpectedSubjectSequence "0" until its outcome is known, or the context ends. It
// repeats, so Taken may mean its own earlier attempt.
func (c *Conn) PublishFirst(ctx context.Context, msg *nats.Msg) (verdict StoreVerdict, _ error) {
	err := c.PublishUntil(ctx, msg, func(err error) (again bool, _ error) {
		verdict, again, err = storeVerdict(err)
		return again, err
	})
	return verdict, err
}

// storeVerdict reads the answer to a publish with an expected sequence. again: nobody knows yet, publish again.
func storeVerdict(err error) (verdict StoreVerdict, again bool, _ error) {
	var api *APIError
	switch {
	case err == nil:
		return Stored, false, nil
	case errors.As(err, &api):
		switch {
		case api.ErrCode == codeWrongLastSequence || api.perSubject():
			return Taken, false, nil
		case api.ErrCode == codeWriteInFlight:
			return 0, true, err // another write to the subject waits for its quorum: it may still fail
		case errors.Is(api, ErrStreamFull):
			return Full, false, nil
		}
	}
	return 0, uncertain(err), err
}
