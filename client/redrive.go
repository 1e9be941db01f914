package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// Errors of Redrive.
var (
	// ErrIDTaken is returned if another job has the new id, which an earlier redrive may have published.
	ErrIDTaken = errors.New("the id is taken, perhaps by an earlier redrive")
	// ErrInvalidID is returned if the new id is none.
	ErrInvalidID = errors.New("not a valid job id")
	// ErrTookEffect is returned for a job whose effect happened: it is never published again.
	ErrTookEffect = errors.New("the job has taken effect")
	// ErrApproval is returned for an approval: its id belongs to one dry run, so that it cannot have another one.
	ErrApproval = errors.New("an approval is not published again; make a new dry run, and approve that")
	// ErrMayHaveEffect is returned for a job that may have taken effect, unless it is forced.
	ErrMayHaveEffect = errors.New("the job's outcome is unknown; it may have taken effect; check the database")
)

// RedriveOptions configure Redrive.
type RedriveOptions struct {
	ID    string // of the new job; empty: the old one with _r1, or its number counted up
	Force bool   // also a job that may have taken effect
	Now   bool   // to no queue, also a job that was in one
}

// Redriven is a job that was published again.
type Redriven struct {
	JobID    string // of the job that the dead letter is of
	NewID    string
	Sequence uint64 // of the new job in its stream
}

// Redrive publishes the job of a dead letter again, under a new id, without its reply_to and expiry, and then removes the dead letter:
// whatever dies in between leaves it there, and the next attempt finds the new id taken.
func Redrive(ctx context.Context, c *Client, deadLetter *DeadLetter, opts RedriveOptions) (Redriven, error) {
	if err := redrivable(ctx, c, deadLetter, opts.Force); err != nil {
		return Redriven{}, err
	}
	out := Redriven{JobID: deadLetter.JobID(), NewID: cmp.Or(opts.ID, NextID(deadLetter.JobID()))}
	if !contract.ValidID(out.NewID) {
		return Redriven{}, fmt.Errorf("%q: %w", out.NewID, ErrInvalidID)
	}
	switch _, err := c.LatestResult(ctx, deadLetter.Database, out.NewID); {
	case err == nil:
		return Redriven{}, fmt.Errorf("%s: %w", out.NewID, ErrIDTaken)
	case !errors.Is(err, ErrNoResult):
		return Redriven{}, err
	}
	// The old reply subject has no subscriber any more, the old expiry is over, and an answer that goes only to a reply would go
	// nowhere.
	body, err := contract.ParseBody(deadLetter.Body)
	if err != nil {
		return Redriven{}, fmt.Errorf("%w: publish a corrected job instead", err)
	}
	body = body.Without("reply_to", "expires_at", "expires_in", "answer").With("id", out.NewID)
	headers := nats.Header{contract.HeaderRedriveOf: {out.JobID}}
	for name, values := range deadLetter.Headers { // the job's own, such as a trace, without those that meant something to the server
		if !strings.HasPrefix(name, contract.HeaderPrefix) {
			headers[name] = values
		}
	}
	of := deadLetter.JobSubject()
	if opts.Now {
		of.Queue = ""
	}
	receipt, err := c.Submit(ctx, &Job{
		Database: deadLetter.Database, Queue: of.Queue, Kind: deadLetter.Kind, Name: of.Name, ID: out.NewID, Body: body.Bytes(), Headers: headers,
	})
	if err != nil {
		return Redriven{}, err
	}
	if receipt.Duplicate {
		return Redriven{}, fmt.Errorf("%s: %w", out.NewID, ErrIDTaken)
	}
	out.Sequence = receipt.Sequence
	return out, c.DeleteDeadLetter(ctx, deadLetter)
}

// redrivable refuses jobs whose effect happened, and those that may have had theirs unless they are forced.
func redrivable(ctx context.Context, c *Client, deadLetter *DeadLetter, force bool) error {
	if deadLetter.Kind == kindApprove {
		return ErrApproval
	}
	switch deadLetter.Reason() {
	case string(contract.Rejected), string(contract.Failed), string(contract.Canceled), string(contract.Expired), contract.ReasonJobIDReused:
		return nil
	case contract.ReasonResultIDTaken:
		return fmt.Errorf("%w; its result is stored under %s", ErrTookEffect, deadLetter.Headers.Get(contract.HeaderResultID))
	case contract.ReasonTooManyDeliveries: // the stored result shows how it finished
		r, err := c.LatestResult(ctx, deadLetter.Database, deadLetter.Headers.Get(contract.HeaderResultID))
		if err != nil && !errors.Is(err, ErrNoResult) {
			return err
		}
		if err == nil && r.Status == contract.Failed { // and is the result of this message, not of another one under its id
			sequence, err := strconv.ParseUint(deadLetter.Headers.Get(contract.HeaderSequence), 10, 64)
			queued, queuedErr := time.Parse(time.RFC3339Nano, deadLetter.Headers.Get(contract.HeaderQueuedAt))
			if err == nil && queuedErr == nil && r.Sequence == sequence && r.QueuedAt.Equal(queued) {
				return nil
			}
		}
	}
	if force {
		return nil
	}
	return ErrMayHaveEffect
}

var redriveSuffix = regexp.MustCompile(`^(.+)_r([1-9][0-9]{0,8})$`)

// NextID returns the id under which a job is published again: it counts one further than the id itself does.
func NextID(id string) string {
	if m := redriveSuffix.FindStringSubmatch(id); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil {
			return m[1] + "_r" + strconv.Itoa(n+1)
		}
	}
	return id + "_r1"
}
