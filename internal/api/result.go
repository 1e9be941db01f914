package api

import (
	"context"
	"errors"
	"fmt"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/service"
)

// maxLedgerReads bounds how many requests for results read the ledger of one database at the same time: they use the
// connections of its jobs.
const maxLedgerReads = 4

// result answers with the stored result of a job, as the stream's leader has it; without one, with the answer of its ledger
// row, which is there as long as its id is in use.
func (a *api) result(ctx context.Context, d *Database, q *service.Request) ([]byte, error) {
	if err := checkNoBody(q); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, a.cfg.API.Wait)
	defer stop()
	r := refusal{Database: d.Name, JobID: q.Tokens[2]}
	found, err := d.Results.StoredResult(ctx, r.JobID)
	if err == nil && found == nil {
		if found, err = d.recorded(ctx, r.JobID); err != nil {
			r.Code, r.Retryable = string(contract.CodeUnavailable), true
			r.Message = "the stream has no result, and the database did not answer whether its ledger has one; send the request again"
			return nil, refuse(503, r)
		}
	}
	switch {
	case errors.Is(err, bus.ErrSubject):
		r.Code, r.JobID = string(contract.CodeInvalidID), ""
		r.Message = "a job id is 1 to 120 of A-Z a-z 0-9 _ -"
		return nil, refuse(400, r)
	case err != nil && ctx.Err() != nil:
		r.Code, r.Retryable = "not_known_yet", true
		r.Message = "JetStream did not answer in time whether the job has a result; send the request again"
		return nil, refuse(504, r)
	case err != nil:
		return nil, fmt.Errorf("read a result of %s: %w", d.Name, err)
	case found == nil:
		r.Code, r.Retryable = "no_result_yet", true
		r.Message = "neither the results stream nor the ledger has a result of this job: it has not finished, was never published, " +
			"or its id is free again"
		return nil, refuse(404, r)
	case len(found) > a.conn.MaxPayload():
		r.Code = string(contract.CodeResultTooLarge)
		r.Message = fmt.Sprintf("the result has %d bytes, more than the %d that one message takes", len(found), a.conn.MaxPayload())
		return nil, refuse(413, r)
	default:
		return found, nil
	}
}

// recorded reads the ledger when there is a place for it.
func (d *Database) recorded(ctx context.Context, jobID string) ([]byte, error) {
	select {
	case d.reads <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other requests to read the ledger: %w", context.Cause(ctx))
	}
	defer func() { <-d.reads }()
	return d.Recorded(ctx, jobID)
}
