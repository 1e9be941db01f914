package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
)

// DeadLetter is a job that did not succeed, kept with the reason. contract's Header constants name its headers.
type DeadLetter struct {
	Database string
	Kind     string
	Key      string // id derived from the job's message
	Sequence uint64 // in the stream of dead letters
	Stored   time.Time
	Headers  nats.Header
	Body     []byte // of the job, unchanged
}

// JobID returns the job's id.
func (l *DeadLetter) JobID() string { return l.Headers.Get(contract.HeaderJobID) }

// Reason returns why the dead letter was stored: a status or a code.
func (l *DeadLetter) Reason() string { return l.Headers.Get(contract.HeaderReason) }

// DeadLetterFilter chooses dead letters. The zero value chooses all.
type DeadLetterFilter struct{ Database, Kind string }

// ErrNoDeadLetter is returned for a dead letter that is not there.
var ErrNoDeadLetter = errors.New("there is no such dead letter")

// DeadLetters calls each for every dead letter of the filter, oldest first, until it returns an error, and returns that
// error.
func (c *Client) DeadLetters(ctx context.Context, filter DeadLetterFilter, each func(*DeadLetter) error) error {
	stream, err := c.js.Stream(ctx, c.subjects.DeadStream())
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	subject := c.subjects.DeadLetter(orAny(filter.Database), orAny(filter.Kind), "*")
	for sequence := uint64(1); ; {
		m, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return nil
		case err != nil:
			return fmt.Errorf("list dead letters: %w", err)
		}
		if letter := c.readDeadLetter(m); letter != nil {
			if err := each(letter); err != nil {
				return err
			}
		}
		sequence = m.Sequence + 1
	}
}

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (c *Client) DeadLetter(ctx context.Context, database, kind, key string) (*DeadLetter, error) {
	if err := checkID(database, key); err != nil || !contract.ValidName(kind) {
		return nil, ErrNoDeadLetter
	}
	stream, err := c.js.Stream(ctx, c.subjects.DeadStream())
	if err != nil {
		return nil, fmt.Errorf("read the dead letter: %w", err)
	}
	m, err := stream.GetLastMsgForSubject(ctx, c.subjects.DeadLetter(database, kind, key))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, ErrNoDeadLetter
	case err != nil:
		return nil, fmt.Errorf("read the dead letter: %w", err)
	}
	return c.readDeadLetter(m), nil
}

// DeleteDeadLetter removes a dead letter as it was read. It returns nil if it is gone already.
func (c *Client) DeleteDeadLetter(ctx context.Context, letter *DeadLetter) error {
	stream, err := c.js.Stream(ctx, c.subjects.DeadStream())
	if err == nil {
		err = stream.DeleteMsg(ctx, letter.Sequence)
	}
	if err == nil {
		return nil
	}
	if stream != nil {
		if _, getErr := stream.GetMsg(ctx, letter.Sequence); errors.Is(getErr, jetstream.ErrMsgNotFound) {
			return nil
		}
	}
	return fmt.Errorf("delete the dead letter: %w", err)
}

func (c *Client) readDeadLetter(m *jetstream.RawStreamMsg) *DeadLetter {
	tokens := strings.Split(m.Subject, ".") // namespace, dead, database, kind, key
	if len(tokens) != 5 {
		return nil
	}
	return &DeadLetter{
		Database: tokens[2], Kind: tokens[3], Key: tokens[4], Sequence: m.Sequence, Stored: m.Time, Headers: m.Header, Body: m.Data,
	}
}
