package delivery

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// JobID returns the id of a delivery's job, as far as its body can be read. It may be called while the delivery is run.
func (e *Executor) JobID(d *Delivery) string { return e.decoder.Scan(&d.Message).ID }

// Answered reports whether a stored result or the ledger shows that a delivery's job has finished. It may be called while the
// delivery is run.
func (e *Executor) Answered(ctx context.Context, d *Delivery) bool {
	id := e.JobID(d)
	for _, key := range []string{id, d.DerivedID()} {
		result, err := readStored(ctx, e.opts.Results, key)
		if err != nil || result == nil {
			continue
		}
		if head, err := contract.ReadHead(result); err == nil && head.SameMessage(d.Sequence, d.Timestamp) {
			return true
		}
	}
	row, err := e.opts.Database.Lookup(ctx, id)
	return err == nil && row != nil && row.SameMessage(d.Sequence, d.Timestamp) && row.Status != db.StatusStarted
}

// Recorded returns the answer that the ledger has for a job, marked as a duplicate; nil if it has none, or only that the job
// has started. An error: the database did not answer.
func (e *Executor) Recorded(ctx context.Context, jobID string) ([]byte, error) {
	if !e.opts.Policy.Ledger {
		return nil, nil
	}
	row, err := e.opts.Database.Lookup(ctx, jobID)
	if err != nil || row == nil || row.Status == db.StatusStarted {
		return nil, err
	}
	return contract.MarkDuplicate(e.markExpired(ctx, row.Answer)), nil
}
