package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

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

// Name returns the name of the dead letter, unique in its namespace: database, kind and key, joined by dots.
func (l *DeadLetter) Name() string { return l.Database + "." + l.Kind + "." + l.Key }

// JobID returns the job's id.
func (l *DeadLetter) JobID() string { return l.Headers.Get(contract.HeaderJobID) }

// Reason returns why the dead letter was stored: a status or a code.
func (l *DeadLetter) Reason() string { return l.Headers.Get(contract.HeaderReason) }

// JobSubject returns what the subject of the job's message says. It is empty if the subject on record is not of the dead letter's
// own database and kind, so that a forged header cannot direct the job elsewhere.
func (l *DeadLetter) JobSubject() contract.JobSubject {
	namespace, _, _ := strings.Cut(l.Headers.Get(contract.HeaderSubject), ".")
	of, ok := contract.Subjects{Namespace: namespace}.SplitJob(l.Headers.Get(contract.HeaderSubject))
	if !ok || of.Database != l.Database || of.Kind != l.Kind {
		return contract.JobSubject{}
	}
	return of
}

// JobHeaders returns the headers that the job itself had, under their own names.
func (l *DeadLetter) JobHeaders() nats.Header {
	own := nats.Header{}
	for name, values := range l.Headers {
		if original, ok := strings.CutPrefix(name, contract.HeaderOriginal); ok {
			own[original] = values
		} else if !strings.HasPrefix(name, contract.HeaderPrefix) {
			own[name] = values
		}
	}
	return own
}

// DeadLetterFilter chooses dead letters. The zero value chooses all.
type DeadLetterFilter struct{ Database, Kind string }

// ErrNoDeadLetter is returned for a dead letter that is not there.
var ErrNoDeadLetter = errors.New("not found")

// ErrEnough is returned by a caller's function to end a reading of dead letters without an error.
var ErrEnough = errors.New("no more are wanted")

// DeadLetters calls each for every dead letter of the filter, oldest first, until it returns an error, and returns that
// error, unless it is ErrEnough. Each dead letter is a request of its own.
func (c *Client) DeadLetters(ctx context.Context, filter DeadLetterFilter, each func(*DeadLetter) error) error {
	subject := c.subjects.DeadLetter(orAny(filter.Database), orAny(filter.Kind), "*")
	for m, err := range c.messages(ctx, c.subjects.DeadStream(), subject) {
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		if deadLetter := readDeadLetter(m); deadLetter != nil {
			if err := each(deadLetter); errors.Is(err, ErrEnough) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// DeadLetter returns one dead letter, or ErrNoDeadLetter.
func (c *Client) DeadLetter(ctx context.Context, database, kind, key string) (*DeadLetter, error) {
	if err := errors.Join(checkName("database", database), checkName("kind", kind), checkID(key)); err != nil {
		return nil, err
	}
	m, err := c.message(ctx, c.subjects.DeadStream(), getRequest{LastFor: c.subjects.DeadLetter(database, kind, key)})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the dead letter: %w", err)
	case m == nil:
		return nil, fmt.Errorf("dead letter %s of %s/%s: %w", key, database, kind, ErrNoDeadLetter)
	}
	return readDeadLetter(m), nil
}

// DeleteDeadLetter removes a dead letter as it was read. It returns nil if it is gone already, or replaced.
func (c *Client) DeleteDeadLetter(ctx context.Context, deadLetter *DeadLetter) error {
	stream, answer := c.subjects.DeadStream(), struct{}{}
	err := c.request(ctx, "STREAM.MSG.DELETE."+stream, map[string]uint64{"seq": deadLetter.Sequence}, &answer)
	if hasCode(err, codeDeleteFailed) { // for any reason: also because it is gone
		if m, getErr := c.message(ctx, stream, getRequest{Sequence: deadLetter.Sequence}); getErr == nil && m == nil {
			return nil
		}
	}
	if err != nil && !hasCode(err, codeSequenceNotFound) {
		return fmt.Errorf("delete the dead letter: %w", err)
	}
	return nil
}

func readDeadLetter(m *storedMessage) *DeadLetter {
	tokens := strings.Split(m.Subject, ".") // namespace, dead, database, kind, key
	if len(tokens) != 5 {
		return nil
	}
	deadLetter := &DeadLetter{Database: tokens[2], Kind: tokens[3], Key: tokens[4], Sequence: m.Sequence, Stored: m.Time, Body: m.Data}
	if headers, err := nats.DecodeHeadersMsg(m.Headers); err == nil { // a message without headers has none to read
		deadLetter.Headers = headers
	}
	return deadLetter
}
