package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/report"
)

// ErrPauseChanged is returned if the record of a pause is not the one that was read before, or another write of it is in flight.
var ErrPauseChanged = errors.New("the pause has changed meanwhile")

// storePause writes a record if the last entry of its key has a sequence; 0: if it has none.
func storePause(ctx context.Context, c *bus.Conn, key string, value []byte, expected uint64) (uint64, error) {
	ack, err := c.Publish(ctx, &nats.Msg{Subject: bus.StateSubject(c, key), Header: expecting(expected), Data: value})
	if bus.HasCode(err, bus.CodeWrongLastSequence) || bus.HasCode(err, bus.CodeWriteInFlight) {
		return 0, ErrPauseChanged
	}
	return ack.Sequence, err
}

func expecting(sequence uint64) nats.Header {
	return nats.Header{bus.HeaderExpectedSequence: {strconv.FormatUint(sequence, 10)}}
}

// ReadPause returns a target's pause as the bucket has it; nil: there is none. bus.ErrNotFound: there is no bucket.
func ReadPause(ctx context.Context, c *bus.Conn, target contract.PauseTarget) (*report.Pause, error) {
	e, err := lastEntry(ctx, c, contract.PauseKey(target))
	if e == nil || err != nil || e.ended {
		return nil, err
	}
	pause := e.pause(contract.PauseKey(target))
	return &pause, nil
}

func lastEntry(ctx context.Context, c *bus.Conn, key string) (*pauseEntry, error) {
	m, err := bus.GetMessage(ctx, c, bus.StateStream(c.Subjects()), bus.GetRequest{LastFor: bus.StateKey(c.Subjects(), key)})
	if err != nil {
		return nil, fmt.Errorf("read the pause %s: %w", key, err)
	}
	if m == nil {
		return nil, nil
	}
	return &pauseEntry{value: m.Data, sequence: m.Sequence, stored: m.Time, ended: deleted(m)}, nil
}

// SetPause stores a record and returns the pause once the bucket has it. bus.ErrNotFound: there is no bucket.
// bus.ErrStreamFull: it is full.
func SetPause(ctx context.Context, c *bus.Conn, target contract.PauseTarget, record contract.Pause) (*report.Pause, error) {
	value, err := contract.EncodePause(record)
	if err != nil {
		return nil, err
	}
	if _, err := ReadPause(ctx, c, target); err != nil {
		return nil, err
	}
	msg := nats.Msg{Subject: bus.StateSubject(c, contract.PauseKey(target)), Data: value}
	if err := withRoom(ctx, c, func() error { return c.PublishCertainly(ctx, &msg) }); err != nil {
		return nil, fmt.Errorf("store the pause: %w", err)
	}
	pause, err := ReadPause(ctx, c, target)
	if err == nil && pause == nil {
		err = ErrPauseChanged
	}
	return pause, err
}

// EndPause removes the record of a pause as it was read. ErrPauseChanged: it is another one now.
func EndPause(ctx context.Context, c *bus.Conn, target contract.PauseTarget, pause *report.Pause) error {
	key := contract.PauseKey(target)
	msg := nats.Msg{Subject: bus.StateSubject(c, key), Header: expecting(pause.Revision)}
	msg.Header.Set(headerOperation, "DEL")
	verdict := report.Stored
	err := withRoom(ctx, c, func() (err error) {
		verdict, err = c.PublishFirst(ctx, &msg)
		if err == nil && verdict == report.Full {
			return bus.ErrStreamFull
		}
		return err
	})
	if errors.Is(err, bus.ErrStreamFull) { // the record itself has to make room
		request := map[string]any{"filter": bus.StateKey(c.Subjects(), key), "seq": pause.Revision + 1}
		err = c.API(ctx, "STREAM.PURGE."+bus.StateStream(c.Subjects()), request, nil)
	}
	switch {
	case err != nil:
		return fmt.Errorf("end the pause: %w", err)
	case verdict != report.Taken:
		return nil
	}
	last, err := lastEntry(ctx, c, key) // an earlier attempt of ours may have ended it
	if err == nil && last != nil && !last.ended {
		return ErrPauseChanged
	}
	return err
}

// withRoom stores something in the bucket, if that is full once more after its history was purged: that needs a permission
// which not every user has.
func withRoom(ctx context.Context, c *bus.Conn, store func() error) error {
	err := store()
	if !errors.Is(err, bus.ErrStreamFull) {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if purgeHistory(bounded, c) != nil {
		return err
	}
	return store()
}
