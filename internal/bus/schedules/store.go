package schedules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// writeInFlight is how long another process's write of the same key gets: replicas commit one in a few milliseconds.
const writeInFlight = 50 * time.Millisecond

// ErrChanged is returned if the last entry of a key is not the one that was read before, or another write of the key is in flight.
var ErrChanged = errors.New("it has changed meanwhile")

// RefusedError is why a stream does not take a job.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Store reads and writes single entries, and publishes jobs.
type Store struct{ conn *bus.Conn }

// New returns the store of a connection.
func New(c *bus.Conn) *Store { return &Store{c} }

// ReadRecord reads the entries of a record from a sequence on, in order, from the stream's leader, and the last entry: nil if there is none.
func (s *Store) ReadRecord(ctx context.Context, key string, from uint64) (entries []Entry, last *Entry, err error) {
	f := Records(s.conn, nil)
	subject := f.prefix + key
	m, err := bus.GetMessage(ctx, s.conn, f.stream, bus.GetRequest{LastFor: subject})
	if m == nil || err != nil {
		return nil, nil, err
	}
	e := f.entry(m)
	last = &e
	if e.Sequence < from-1 { // another bucket than before
		from = 1
	}
	for next := from; next <= e.Sequence; {
		m, err := bus.GetMessage(ctx, s.conn, f.stream, bus.GetRequest{Sequence: max(next, 1), NextFor: subject})
		if m == nil || err != nil {
			return entries, last, err
		}
		entries = append(entries, f.entry(m))
		next = m.Sequence + 1
	}
	return entries, last, nil
}

// knownTimeout bounds the look for a record: NATS answers nothing to a user without permission.
const knownTimeout = 3 * time.Second

// Known returns an error if no schedule has a key: its pause would keep nothing from firing. Where the bucket cannot be read, as without
// permission, it returns nil.
func (s *Store) Known(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, knownTimeout)
	defer cancel()
	_, last, err := s.ReadRecord(ctx, key, 1)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return err
	case err != nil || last != nil && !last.Deleted:
		return nil //nolint:nilerr // it may be there
	}
	return fmt.Errorf("there is no schedule %s; runner schedule ls lists them", key)
}

// ReadState reads the last entry of a schedule's state from the stream's leader; nil: there is none.
func (s *Store) ReadState(ctx context.Context, key string) (*Entry, error) {
	f := States(s.conn, nil)
	m, err := bus.GetMessage(ctx, s.conn, f.stream, bus.GetRequest{LastFor: f.prefix + contract.ScheduleStateKey(key)})
	if m == nil || err != nil {
		return nil, err
	}
	e := f.entry(m)
	e.Key = key
	return &e, nil
}

// PutState stores the state of a schedule if the last entry of its key has a sequence; 0: if it has none. ErrChanged: it has not.
func (s *Store) PutState(ctx context.Context, key string, value []byte, expected uint64) (sequence uint64, err error) {
	return put(ctx, s.conn, bus.StateSubject(s.conn, contract.ScheduleStateKey(key)), value, expected, "")
}

// PutRecord stores the record of a schedule, and RemoveRecord a delete marker, under the same condition.
func (s *Store) PutRecord(ctx context.Context, key string, value []byte, expected uint64) (sequence uint64, err error) {
	return put(ctx, s.conn, bus.SchedulesSubject(s.conn, key), value, expected, "")
}

// RemoveRecord removes the record of a schedule if its last entry has a sequence.
func (s *Store) RemoveRecord(ctx context.Context, key string, expected uint64) (sequence uint64, err error) {
	return put(ctx, s.conn, bus.SchedulesSubject(s.conn, key), nil, expected, "DEL")
}

func put(ctx context.Context, c *bus.Conn, subject string, value []byte, expected uint64, operation string) (uint64, error) {
	msg := nats.Msg{Subject: subject, Data: value, Header: nats.Header{bus.HeaderExpectedSequence: {strconv.FormatUint(expected, 10)}}}
	if operation != "" {
		msg.Header.Set(headerOperation, operation)
	}
	ack, err := c.Publish(ctx, &msg)
	switch {
	case bus.HasCode(err, bus.CodeWrongLastSequence):
		return 0, ErrChanged
	case bus.HasCode(err, bus.CodeWriteInFlight):
		// Only a cluster answers so. What the other write has come to can be read a moment later.
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(writeInFlight):
			return 0, ErrChanged
		}
	case err != nil && c.Refused(subject):
		return 0, fmt.Errorf("publish to %s: %w", subject, bus.ErrDenied)
	}
	return ack.Sequence, err
}

// PurgeState removes the entries of a schedule's state below a sequence, and PurgeRecord those of its record.
func (s *Store) PurgeState(ctx context.Context, key string, below uint64) error {
	subjects := s.conn.Subjects()
	return s.purge(ctx, bus.StateStream(subjects), bus.StateKey(subjects, contract.ScheduleStateKey(key)), below)
}

// PurgeRecord removes the entries of a schedule's record below a sequence.
func (s *Store) PurgeRecord(ctx context.Context, key string, below uint64) error {
	subjects := s.conn.Subjects()
	return s.purge(ctx, bus.SchedulesStream(subjects), bus.SchedulesKey(subjects, key), below)
}

func (s *Store) purge(ctx context.Context, stream, subject string, below uint64) error {
	return s.conn.API(ctx, "STREAM.PURGE."+stream, map[string]any{"filter": subject, "seq": below}, nil)
}

// Unfinished reports whether a message is still in the jobs stream under its message id: no runner has finished its job.
func (s *Store) Unfinished(ctx context.Context, database string, sequence uint64, messageID string) (bool, error) {
	m, err := bus.GetMessage(ctx, s.conn, s.conn.Subjects().JobsStream(database), bus.GetRequest{Sequence: sequence})
	if m == nil || err != nil {
		return false, err
	}
	h, err := nats.DecodeHeadersMsg(m.Headers)
	return err == nil && h.Get(contract.HeaderMessageID) == messageID, nil //nolint:nilerr // a message without headers is another one
}

// Publish publishes a job once under a message id, and returns its sequence once the stream has it. *RefusedError: the stream does
// not take it. Any other error: it may have it.
func (s *Store) Publish(ctx context.Context, key contract.ScheduleKey, messageID string, body []byte) (sequence uint64, err error) {
	subject := key.Subject(s.conn.Subjects())
	msg := nats.Msg{Subject: subject, Data: body, Header: nats.Header{contract.HeaderMessageID: {messageID}}}
	ack, err := s.conn.Publish(ctx, &msg)
	if err == nil {
		return ack.Sequence, nil
	}
	api, answered := errors.AsType[*bus.APIError](err)
	switch {
	case s.conn.Refused(subject):
		return 0, &RefusedError{"NATS does not permit this runner to publish to " + subject}
	case errors.Is(err, bus.ErrTooLarge):
		return 0, &RefusedError{"the job is larger than the jobs stream accepts"}
	case errors.Is(err, bus.ErrStreamFull):
		return 0, &RefusedError{"the jobs stream is full"}
	case errors.Is(err, bus.ErrNoStream):
		return 0, s.noStream(ctx, key, subject)
	case answered && !bus.Transient(err):
		return 0, &RefusedError{api.Error()}
	}
	return 0, err
}

// noStream returns why nothing answered at a subject: a stream without a quorum gives no other answer than one that does not take it.
func (s *Store) noStream(ctx context.Context, key contract.ScheduleKey, subject string) error {
	info, err := bus.StreamInfo(ctx, s.conn, s.conn.Subjects().JobsStream(key.Database))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return &RefusedError{"the jobs stream of the database is missing"}
	case err != nil:
		return err
	case !slices.ContainsFunc(info.Config.Subjects, func(have string) bool { return covers(have, subject) }):
		return &RefusedError{"the jobs stream does not take " + subject}
	}
	return bus.ErrNoStream
}

// covers reports whether a stream's subject takes a literal one.
func covers(pattern, subject string) bool {
	have, want := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range have {
		switch {
		case token == ">":
			return len(want) > i
		case i >= len(want) || token != "*" && token != want[i]:
			return false
		}
	}
	return len(have) == len(want)
}
