package sqlite

import (
	"context"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// Execute runs one statement outside of any transaction of ours, on the connection that writes: a caller who wants to know in
// this process whether an execution goes on waits for that connection. Another process cannot see it: a file has no locks
// that jobs could have.
func (d *Database) Execute(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once,
) (db.ResultSet, error) {
	c, failure := d.writers.acquire(ctx)
	if failure != nil {
		return db.ResultSet{}, failure
	}
	defer d.writers.release(c)
	if call.Begin != nil {
		if err := call.Begin(); err != nil {
			return db.ResultSet{}, err
		}
	}
	defer c.arm(ctx, call.Timeout)()
	defer c.end()
	if once != nil {
		started := time.Now()
		if failure := d.start(c, once.Start); failure != nil {
			return db.ResultSet{}, failure
		}
		defer c.arm(ctx, rest(call.Timeout, started))() // nothing interrupts a COMMIT, so that the watching has ended
	}
	a := autocommit{session: c, d: d, stmt: stmt, opts: opts, once: once}
	set, failure := a.statement(ctx)
	if failure == nil {
		return set, a.finish(ctx, set, nil)
	}
	return set, a.finish(ctx, set, failure.At(0))
}

// autocommit is one Execute under way.
type autocommit struct {
	*session

	d    *Database
	stmt *dialect.Compiled
	opts db.RowOptions
	once *db.Once
}

// start commits the row that reports that the job was started.
func (d *Database) start(c *session, row *db.Entry) *db.Error {
	if failure := c.begin(); failure != nil {
		return failure
	}
	if failure := d.fence(c, row); failure != nil {
		c.rollBack()
		return failure
	}
	if failure := c.commit(); failure != nil {
		return failure
	}
	crash.At("after_started")
	return nil
}

// rest is what is left of a time limit; 0 is no limit.
func rest(limit time.Duration, started time.Time) time.Duration {
	if limit <= 0 {
		return 0
	}
	return max(limit-time.Since(started), 1)
}

// statement runs the statement in a transaction of SQLite's own making, or in none (VACUUM). While another process keeps the
// file locked it is tried again: nothing was done then.
func (a *autocommit) statement(ctx context.Context) (set db.ResultSet, failure *db.Error) {
	vacuum := dialect.FirstWord(a.d.dialect, a.stmt.SQL) == "VACUUM"
	if vacuum && dialect.HasWord(a.d.dialect, a.stmt.SQL, "INTO") {
		return set, db.Errorf(db.ClassPermanent, contract.CodeForbiddenStatement, "VACUUM INTO writes another file, which is not allowed in jobs")
	}
	if failure := a.here(); failure != nil {
		return set, failure
	}
	a.h.forgetRowID()
	a.whole, a.vacuum = true, vacuum
	defer func() { a.whole, a.vacuum = false, false }()
	before := a.h.totalChanges()
	_ = a.retryBusy(func() error {
		a.rows.Reset(a.opts)
		a.maxBytes = a.opts.LargestRow()
		if set, failure = a.execute(ctx, a.stmt); failure != nil {
			return failure
		}
		return nil
	})
	if failure != nil && failure.Class == db.ClassTookEffect && a.h.totalChanges() != before {
		set.RowsAffected = a.h.changes()
	}
	if failure == nil && a.h.inTransaction() {
		failure = db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted, "the statement left a transaction open")
	}
	return set, outside(failure)
}

// outside corrects what an error means that did not roll back a transaction of ours: a disk that failed or was full
// may have failed behind the statement's own COMMIT.
func outside(failure *db.Error) *db.Error {
	if failure == nil {
		return nil
	}
	if f, ok := failure.Err.(*fault); ok && (failure.Class == db.ClassLost || f.primary() == sqlite3.SQLITE_FULL) { //nolint:errorlint // set by classify
		return db.OutcomeUnknown(f)
	}
	return failure.NotRolledBack()
}

// finish writes the row of the job's end. The call's own bounds may be over; writing it has its own.
func (a *autocommit) finish(ctx context.Context, set db.ResultSet, err error) error {
	if a.once == nil || db.ClassOf(err) == db.ClassUnknown {
		return err
	}
	row := a.once.End(set, err)
	a.watch.disarm()
	a.rollBack()
	defer a.arm(context.WithoutCancel(ctx), a.settings.lockTimeout)()
	written, failure := a.d.conclude(a.session, row)
	switch {
	case failure != nil:
		return db.OutcomeUnknown(failure)
	case !written:
		return engine.OtherEnd()
	}
	return err
}

// conclude writes an end over the row of a job that was started, in a transaction of its own.
func (d *Database) conclude(c *session, end *db.Entry) (bool, *db.Error) {
	if failure := c.begin(); failure != nil {
		return false, failure
	}
	n, err := d.insert(c, concludeEntry, end, time.Now())
	if err != nil {
		return false, d.ledgerFailed(c, err)
	}
	if n == 0 {
		return false, nil
	}
	return true, c.commit()
}

// RecordEnd writes the end of a job that was started, unless another one is there. An execution of this process has
// ended when the connection that writes is free; one of another process cannot be seen.
func (d *Database) RecordEnd(ctx context.Context, end *db.Entry, _ bool) (row *db.Entry, written bool, err error) {
	err = d.using(ctx, d.writers, func(c *session) (failure *db.Error) {
		if written, failure = d.conclude(c, end); failure != nil {
			return failure
		}
		found, err := d.find(c, end.JobID)
		if err != nil {
			return d.ledgerFailed(c, err)
		}
		row = found
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return row, written, nil
}
