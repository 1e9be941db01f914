package sqlserver

import (
	"context"
	"errors"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// Transact runs the statements in one transaction, verifies that it still is the one that was started, writes the ledger
// row, and commits.
func (d *Database) Transact(
	ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	for i, stmt := range tx.Statements {
		if err := d.single(stmt, i); err != nil {
			return nil, err
		}
	}
	if failure := engine.CheckCountable(d.dialect, tx); failure != nil {
		return nil, failure
	}
	s, err := d.begin(ctx, &call)
	if err != nil {
		return nil, err
	}
	defer d.release(s)
	ctx, done := s.limit(ctx, call.Timeout)
	defer done()
	t := transaction{session: s, d: d, call: &call, tx: tx, seal: seal}
	s.encoder.Reset(opts)
	if err := t.perform(ctx); err != nil {
		s.rollback(ctx)
		return nil, err
	}
	if tx.DryRun {
		s.rollback(ctx)
		return t.sets, nil
	}
	return t.sets, t.commit(ctx)
}

// transaction is one Transact under way.
type transaction struct {
	*session
	d    *Database
	call *db.Call
	tx   *db.Transaction
	seal db.BeforeCommit

	written int64 // rows, counted where the transaction has a limit on them

	id   int64 // the server's, of the transaction that was started
	sets []db.ResultSet
}

// perform does everything up to COMMIT.
func (t *transaction) perform(ctx context.Context) error {
	answer, err := t.query(ctx, t.d.texts.limits+isolationSQL(t.tx.Isolation)+t.d.labelSQL(t.call.Label)+strings.Repeat("BEGIN TRANSACTION; ", depth)+
		"SELECT "+t.d.transactionID())
	if err != nil {
		return t.d.failure(ctx, t.session, err, -1)
	}
	id, ok := answer.first()[0].(int64)
	if !ok {
		return db.Errorf(db.ClassPermanent, contract.CodeDatabase, "the server does not return the transaction's id")
	}
	t.id = id
	t.sets = make([]db.ResultSet, 0, len(t.tx.Statements))
	for i, stmt := range t.tx.Statements {
		if err := t.execute(ctx, stmt, i); err != nil {
			return err
		}
	}
	if failure := engine.CheckAffected(t.tx, t.written); failure != nil {
		return failure
	}
	var entry *db.Entry
	if t.seal != nil {
		if entry, err = t.seal(ctx, t.sets); err != nil {
			return err
		}
		if t.tx.DryRun {
			entry = nil
		}
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return t.fence(ctx, entry)
}

// execute runs one statement and checks its guard.
func (t *transaction) execute(ctx context.Context, stmt *dialect.Compiled, at int) error {
	if stmt.Batch != nil {
		return t.executeBatch(ctx, stmt, at)
	}
	r, err := call(stmt)
	if err == nil {
		err = t.startCounting(ctx)
	}
	if err != nil {
		return t.d.failure(ctx, t.session, err, at)
	}
	out := collector{encoder: &t.encoder}
	if err := t.run(ctx, r, &out); err != nil {
		return t.d.failure(ctx, t.session, err, at)
	}
	t.addWritten(stmt, &out)
	set := out.set()
	if failure := engine.CheckGuard(t.tx.Expect, at, set.RowsAffected); failure != nil {
		return failure
	}
	t.sets = append(t.sets, set)
	return nil
}

// fence verifies the transaction and writes the ledger row, if any, in one batch. Nothing of the job's runs between it and COMMIT.
func (t *transaction) fence(ctx context.Context, entry *db.Entry) error {
	answer := &table{}
	err := t.run(ctx, t.d.fenceRequest(t.session, t.id, entry), answer)
	if e, ok := errors.AsType[mssql.Error](err); ok && ctx.Err() == nil {
		return t.d.fenceError(e)
	}
	if err != nil {
		return t.d.failure(ctx, t.session, err, -1)
	}
	said, ok := last(answer)
	switch {
	case ok && len(answer.rows) == 1 && said == fenceHolds:
		return nil
	case ok && said == fenceNoRow:
		// The row was written and is not there: without it there is no fence.
		return db.Errorf(db.ClassPermanent, contract.CodeDatabase,
			"the ledger (table dbrunner.ledger) did not keep the row: remove the trigger or view that prevents it; nothing is committed")
	}
	t.dead = true // whatever the job has done, it may have done to the session
	return errTransactionEnded()
}

// commit sends COMMIT and never takes it back: when the call's bounds are over, the server has a short time for its
// answer, and then the link is cut.
func (t *transaction) commit(ctx context.Context) error {
	answer := &table{}
	err := t.run(context.WithoutCancel(ctx), request{text: commitSQL}, answer)
	depth, counted := last(answer)
	if err == nil && counted && depth == 0 {
		return nil
	}
	if err == nil && counted { // something has started another transaction within it
		t.kill()
		return errTransactionEnded()
	}
	e, said := errors.AsType[mssql.Error](err)
	if !said || !answered(err) {
		t.kill()
		t.d.lost()
		return engine.UnknownCommit(err)
	}
	failure := t.d.serverError(e, -1)
	if failure.Class == db.ClassLost || counted && depth == 0 || e.Number == nothingToCommit {
		// Nothing is open any more, and an error does not show whether it was committed.
		t.kill()
		return engine.UnknownCommit(err)
	}
	t.rollback(ctx)
	return failure
}

// nothingToCommit is the number of a COMMIT without a transaction.
const nothingToCommit = 3902
