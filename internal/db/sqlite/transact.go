package sqlite

import (
	"context"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// Transact runs the statements in one transaction, seals it with a ledger row and commits it.
func (d *Database) Transact(ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions,
	seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	c, failure := d.writers.acquire(ctx)
	if failure != nil {
		return nil, failure
	}
	defer d.writers.release(c)
	if call.Begin != nil {
		if err := call.Begin(); err != nil {
			return nil, err
		}
	}
	defer c.arm(ctx, call.Timeout)()
	defer c.end()
	var deadline time.Time
	if call.Timeout > 0 {
		deadline = time.Now().Add(call.Timeout)
	}
	reading := ctx // of parameters that are outside of the job
	if !deadline.IsZero() {
		var stop context.CancelFunc
		reading, stop = context.WithDeadline(ctx, deadline)
		defer stop()
	}
	sets, failure := c.perform(reading, tx, opts)
	if failure != nil {
		return nil, failure
	}
	if err := d.seal(ctx, deadline, c, sets, seal); err != nil {
		return nil, err
	}
	if failure := c.commit(); failure != nil {
		return nil, failure
	}
	return sets, nil
}

// perform begins the transaction and runs its statements.
func (c *conn) perform(ctx context.Context, tx *db.Transaction, opts db.RowOptions) ([]db.ResultSet, *db.Error) {
	if failure := c.begin(); failure != nil {
		return nil, failure
	}
	c.rows.Reset(opts)
	c.maxBytes = opts.LargestRow()
	sets := make([]db.ResultSet, 0, len(tx.Statements))
	for i, stmt := range tx.Statements {
		set, failure := c.execute(ctx, stmt)
		if failure == nil {
			failure = c.afterwards(set, tx.Expect, i)
		}
		if failure != nil {
			return nil, failure.At(i)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// afterwards checks the guard of a statement, and that its transaction is still open: what follows would
// commit on its own. INSERT OR ROLLBACK and RAISE(ROLLBACK) end it, but fail themselves; none is known that
// does not.
func (c *conn) afterwards(set db.ResultSet, expect []*db.Range, i int) *db.Error {
	if failure := c.stopped(); failure != nil {
		return failure
	}
	if !c.h.inTransaction() {
		return db.Errorf(db.ClassPermanent, db.CodeTransactionAborted, "the statement ended the transaction")
	}
	return engine.CheckGuard(expect, i, set.RowsAffected)
}

// seal calls the job's seal and inserts the row that it returns. Its error is returned as it is.
func (d *Database) seal(ctx context.Context, deadline time.Time, c *conn, sets []db.ResultSet, seal db.BeforeCommit) error {
	if seal == nil {
		return nil
	}
	if !deadline.IsZero() {
		bounded, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		ctx = bounded
	}
	entry, err := seal(ctx, sets)
	if err != nil || entry == nil {
		return err
	}
	if failure := d.fence(c, entry); failure != nil {
		return failure
	}
	return nil
}

// commit commits, unless the call's time is over or nobody wants it any more; from here on nothing interrupts
// it. See the package comment for what a COMMIT that fails means.
func (c *conn) commit() *db.Error {
	if failure := c.stopped(); failure != nil {
		return failure
	}
	c.watch.disarm()
	err := c.run(commit)
	if err == nil {
		return nil
	}
	failure := c.failed(err, committing)
	if !c.h.inTransaction() {
		failure.Class = db.ClassUnknown
		c.spoilt = true
	}
	return failure
}
