package delivery

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// JobID returns the id of a delivery's job, as far as its body can be read. It may be called while the delivery is run.
func (e *Executor) JobID(d *Delivery) string { return e.decoder.Scan(&d.Message).ID }

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
