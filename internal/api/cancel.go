package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/service"
)

// cancelWait is how long a request to cancel waits for the job's end where it does not say so itself.
const cancelWait = 2 * time.Second

// maxRequestedBy bounds the name that a request to cancel gives for its sender, in bytes.
const maxRequestedBy = 256

// cancelRequest is a request to cancel as it is kept. When it was asked for is the bucket's own time of it.
type cancelRequest struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"` // by the clock of the runner that took it
	By      string    `json:"by,omitempty"`
	Runner  string    `json:"runner"`
}

// cancelJob keeps a request to cancel a job, which every runner of the database reads, and waits a moment for the end.
func (a *api) cancelJob(ctx context.Context, d *Database, q *service.Request) (any, error) {
	id := q.Tokens[2]
	wait, err := a.waitOf(q, cancelWait)
	if err != nil {
		return nil, err
	}
	bounded, stop := context.WithTimeout(ctx, a.cfg.API.Wait)
	stored, err := d.Results.StoredResult(bounded, id)
	stop()
	if err != nil {
		return nil, a.notKept(d, id, err)
	}
	if stored != nil {
		return ended(d, id, stored)
	}
	request, err := json.Marshal(cancelRequest{
		Version: 1, At: time.Now().UTC(), By: printable(q.Header(contract.HeaderRequestedBy)), Runner: a.cfg.Instance,
	})
	if err == nil {
		bounded, stop := context.WithTimeout(ctx, a.cfg.API.Wait)
		err = control.RequestCancel(bounded, a.conn, d.Name, id, request)
		stop()
	}
	if err != nil {
		return nil, a.notKept(d, id, err)
	}
	until := time.Now().Add(a.cfg.Topology.Control.MaxAge).UTC().Truncate(time.Second)
	ctx, stop = context.WithTimeout(ctx, wait)
	defer stop()
	if stored, err = results.Await(ctx, a.conn, d.Name, id); err == nil {
		return ended(d, id, stored)
	}
	return contract.CancelAnswer{Version: 1, Database: d.Name, JobID: id, Outcome: contract.CancelKept, KeptUntil: &until}, nil
}

// notKept returns why a request to cancel has no effect, or that it is unknown whether it has.
func (a *api) notKept(d *Database, id string, err error) error {
	r := refusal{Database: d.Name, Retryable: true}
	switch {
	case errors.Is(err, bus.ErrSubject):
		r.Code, r.Retryable = string(contract.CodeInvalidID), false
		r.Message = "a job id is 1 to 120 of A-Z a-z 0-9 _ -"
		return refuse(400, r)
	case errors.Is(err, bus.ErrStreamFull):
		r.Code, r.JobID = "too_many_cancellations", id
		r.Message = "too many cancel requests are stored (topology.control.max_requests); this one was not stored"
		return refuse(503, r)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		r.Code, r.JobID = "not_known_yet", id
		r.Message = "JetStream did not confirm the request in time; send it again"
		return refuse(504, r)
	default:
		return fmt.Errorf("cancel a job of %s: %w", d.Name, err)
	}
}

// ended is the answer for a job that has a result.
func ended(d *Database, id string, stored []byte) (any, error) {
	head, err := contract.ReadHead(stored)
	if err != nil {
		return nil, fmt.Errorf("cancel a job of %s: %w", d.Name, err)
	}
	answer := contract.CancelAnswer{Version: 1, Database: d.Name, JobID: id, Outcome: contract.CancelTooLate, Status: head.Status}
	if head.Status == contract.Canceled {
		answer.Outcome = contract.CancelDone
	}
	return answer, nil
}

// printable cuts a text to its bound and leaves out what does not show.
func printable(text string) string {
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)
	if len(text) > maxRequestedBy {
		text = strings.ToValidUTF8(text[:maxRequestedBy], "")
	}
	return text
}
