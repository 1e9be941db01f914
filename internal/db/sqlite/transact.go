package sqlite

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/sharing"
)

// Transact runs the statements in one transaction, seals it with a ledger row and commits it.
func (d *Database) Transact(ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions,
	seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	if failure := engine.CheckCountable(d.dialect, tx); failure != nil {
		return nil, failure
	}
	if d.shared != nil && sharing.Possible(tx, opts) {
		return d.shared.Transact(ctx, &call, tx, opts, seal)
	}
	c, err := beginOn(ctx, d, &call)
	if err != nil {
		return nil, err
	}
	defer d.writers.release(c)
	return transact(ctx, d, c, &call, tx, opts, seal)
}

// beginOn gets the connection that writes, and asks the call's last question.
func beginOn(ctx context.Context, d *Database, call *db.Call) (*session, error) {
	c, failure := d.writers.acquire(ctx)
	if failure != nil {
		return nil, failure
	}
	if call.Begin == nil {
		return c, nil
	}
	asked := false
	defer func() {
		if !asked {
			d.writers.release(c)
		}
	}()
	if err := call.Begin(); err != nil {
		return nil, err
	}
	asked = true
	return c, nil
}

// transact runs the statements in a transaction of their own.
func transact(ctx context.Context, d *Database, c *session, call *db.Call, tx *db.Transaction, opts db.RowOptions,
	seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	defer c.arm(ctx, call.Timeout)()
	defer c.end()
	if call.Timeout > 0 { // of parameters that are outside of the job, and of the seal
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, call.Timeout)
		defer stop()
	}
	t := transaction{session: c, d: d, tx: tx, opts: opts}
	if failure := t.perform(ctx); failure != nil {
		return nil, failure
	}
	if err := t.sealed(ctx, seal); err != nil {
		return nil, err
	}
	finish := c.commit
	if tx.DryRun {
		finish = c.checkDeferred // what is open is rolled back when the call ends
	}
	if failure := finish(); failure != nil {
		return nil, failure
	}
	return t.sets, nil
}

// transaction is one Transact under way.
type transaction struct {
	*session

	d    *Database
	tx   *db.Transaction
	opts db.RowOptions
	sets []db.ResultSet
}

// perform starts the transaction and runs its statements.
func (t *transaction) perform(ctx context.Context) *db.Error {
	if failure := t.begin(); failure != nil {
		return failure
	}
	return t.statements(ctx)
}

// statements runs the statements in the open transaction.
func (t *transaction) statements(ctx context.Context) *db.Error {
	before := t.h.totalChanges()
	t.rows.Reset(t.opts)
	t.maxBytes = t.opts.LargestRow()
	t.sets = make([]db.ResultSet, 0, len(t.tx.Statements))
	for i, stmt := range t.tx.Statements {
		set, failure := t.execute(ctx, stmt)
		if failure == nil {
			failure = t.afterwards(set, i)
		}
		if failure != nil {
			return failure.At(i)
		}
		t.sets = append(t.sets, set)
	}
	return engine.CheckAffected(t.tx, t.h.totalChanges()-before)
}

// afterwards checks the guard of a statement, and that its transaction is still open: what follows would
// commit on its own. INSERT OR ROLLBACK and RAISE(ROLLBACK) end it, but fail themselves; none is known that
// does not.
func (t *transaction) afterwards(set db.ResultSet, i int) *db.Error {
	if failure := t.stopped(); failure != nil {
		return failure
	}
	if !t.h.inTransaction() {
		return db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted, "the statement ended the transaction")
	}
	return engine.CheckGuard(t.tx.Expect, i, set.RowsAffected)
}

// sealed calls the job's seal and inserts the row that it returns. Its error is returned as it is.
func (t *transaction) sealed(ctx context.Context, seal db.BeforeCommit) error {
	if seal == nil {
		return nil
	}
	entry, err := seal(ctx, t.sets)
	if err != nil || entry == nil || t.tx.DryRun {
		return err
	}
	if failure := t.d.fence(t.session, entry); failure != nil {
		return failure
	}
	return nil
}

// commit commits, unless the call's time is over or it was given up; from here on nothing interrupts
// it. See the package comment for what a COMMIT that fails means.
func (c *session) commit() *db.Error {
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
