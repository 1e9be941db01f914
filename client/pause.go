package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
)

// writeInFlight is how long another process's write of the same key gets: replicas commit one in a few milliseconds.
const writeInFlight = 20 * time.Millisecond

// Errors of pauses.
var (
	// ErrNoState is returned if the bucket of pauses is missing.
	ErrNoState = errors.New("the bucket of pauses is missing")
	// ErrPauseChanged is returned if the record of a pause is not the one that was expected.
	ErrPauseChanged = errors.New("the pause has changed meanwhile")
)

// ReadPause returns a target's pause as the bucket has it; nil: there is none. Its reason is empty if the record cannot be read.
func ReadPause(ctx context.Context, c *Client, target contract.PauseTarget) (*contract.ActivePause, error) {
	bucket, key, err := pauseRecord(ctx, c, target)
	if err != nil {
		return nil, err
	}
	entry, err := bucket.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return nil, nil
	case err != nil:
		return nil, pauseError(c, "read", key, err)
	}
	record, _ := contract.ReadPause(entry.Value()) // what cannot be read pauses as well
	return &contract.ActivePause{Key: key, Revision: entry.Revision(), Reason: record.Reason, By: record.By}, nil
}

// CreatePause pauses a target that is not paused. ErrPauseChanged: it is.
func CreatePause(ctx context.Context, c *Client, target contract.PauseTarget, record contract.Pause) (*contract.ActivePause, error) {
	value, err := contract.EncodePause(record)
	if err != nil {
		return nil, err
	}
	bucket, key, err := pauseRecord(ctx, c, target)
	if err != nil {
		return nil, err
	}
	revision, err := bucket.Create(ctx, key, value)
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return nil, ErrPauseChanged
	case err != nil:
		return nil, pauseError(c, "store", key, err)
	}
	return &contract.ActivePause{Key: key, Revision: revision, Reason: record.Reason, By: record.By}, nil
}

// EndPause ends a pause as it was read. ErrPauseChanged: it is another one now.
func EndPause(ctx context.Context, c *Client, target contract.PauseTarget, pause *contract.ActivePause) error {
	bucket, key, err := pauseRecord(ctx, c, target)
	if err != nil {
		return err
	}
	for {
		err = bucket.Delete(ctx, key, jetstream.LastRevision(pause.Revision))
		refused, _ := errors.AsType[*jetstream.APIError](err)
		switch {
		case err == nil:
			return nil
		case refused != nil && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
			return ErrPauseChanged
		case refused == nil || refused.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			return pauseError(c, "end", key, err)
		}
		// A cluster answers so while another write of the key is in flight, which may still fail.
		select {
		case <-ctx.Done():
			return pauseError(c, "end", key, ctx.Err())
		case <-time.After(writeInFlight):
		}
	}
}

func pauseRecord(ctx context.Context, c *Client, target contract.PauseTarget) (jetstream.KeyValue, string, error) {
	if err := checkName("database", target.Database); err != nil {
		return nil, "", err
	}
	bucket, err := c.js.KeyValue(ctx, c.subjects.StateBucket())
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return nil, "", fmt.Errorf("%w: %s", ErrNoState, c.subjects.StateBucket())
	case err != nil:
		return nil, "", fmt.Errorf("open the bucket %s: %w", c.subjects.StateBucket(), err)
	}
	return bucket, contract.PauseKey(target), nil
}

// pauseError is an error of the bucket. What the server does not permit gets no answer.
func pauseError(c *Client, what, key string, err error) error {
	subject := "$KV." + c.subjects.StateBucket() + "." + key
	if c.denied(subject) {
		return fmt.Errorf("%s the pause: publish to %s: %w", what, subject, ErrDenied)
	}
	return fmt.Errorf("%s the pause %s: %w", what, key, err)
}
