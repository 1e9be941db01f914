package postgres

import (
	"context"
	"slices"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/sharing"
)

const (
	commitGrace   = 2 * time.Second // for the server's answer to COMMIT when the time is over
	rollbackGrace = time.Second
)

// Transact runs the statements in one transaction, in two round trips: the statements, then ledger row and COMMIT.
func (d *Database) Transact(
	ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	if failure := engine.CheckCountable(d.dialect, tx); failure != nil {
		return nil, failure
	}
	if d.shared != nil && sharing.Possible(tx, opts) { // behind a transaction pooler there are no groups
		return d.shared.Transact(ctx, &call, tx, opts, seal)
	}
	l, err := d.begin(ctx, &call, opts)
	if err != nil {
		return nil, err
	}
	defer l.done()
	return transact(ctx, l, &call, tx, opts, seal)
}

// transaction is one Transact under way.
type transaction struct {
	*lease
	call  *db.Call
	tx    *db.Transaction
	opts  db.RowOptions
	seal  db.BeforeCommit
	named bool // named statements may be used
	again bool // rolled back because the session had lost a named statement, or it was stale: worth a second attempt

	before writtenRowsBefore // rows of the session's earlier transactions; nil: the transaction has no limit on rows

	failedAt int // the statement that failed in the last round trip

	asLogin bool          // the ledger row is written as the login: the job has taken another role, which may not
	toLogin [3]segmentEnd // what makes it so

	asked     bool // the server was asked to cancel while it committed
	insertEnd segmentEnd
	commitEnd segmentEnd
}

func (t *transaction) attempt(ctx context.Context) ([]db.ResultSet, error) {
	out := outcome{sets: make([]db.ResultSet, 0, len(t.tx.Statements))}
	if t.tx.MaxAffected > 0 {
		t.before = writtenRowsBefore{}
		out.ours = t.before.take
	}
	if err := t.runStatements(ctx, &out); err != nil {
		return nil, err
	}
	entry, err := t.verify(ctx, &out)
	if err == nil {
		err = t.bounds(ctx)
	}
	if err != nil {
		t.rollback()
		return nil, err
	}
	if err := t.finish(ctx, entry); err != nil {
		return nil, err
	}
	return out.sets, nil
}

// runStatements runs the statements in the first round trip. After an error the transaction is rolled back.
func (t *transaction) runStatements(ctx context.Context, out *outcome) error {
	// With a batch, each statement is a round trip of its own.
	if slices.ContainsFunc(t.tx.Statements, func(s *dialect.Compiled) bool { return s.Batch != nil }) {
		return t.runSeparately(ctx, out)
	}
	if err := t.resolve(t.tx.Statements); err != nil {
		return t.ownError(ctx, err)
	}
	t.startRoundTrip(t.opts)
	ours := t.appendStart()
	for i, stmt := range t.tx.Statements {
		if err := t.appendStatement(stmt, t.named); err != nil {
			t.forgetUnsent()
			return engine.NotEncoded(err).At(i)
		}
	}
	t.buf = appendSync(t.buf)
	if err := t.firstRoundTrip(ctx, ours, out); err != nil {
		return err
	}
	t.flushed()
	if t.stale(out) {
		t.forgetSent()
		t.again = t.named
	}
	switch {
	case !out.ok():
		t.rollback()
		return t.standby(t.failure(ctx, out))
	case t.status != 'T':
		t.markBroken(false)
		return errTransactionEnded()
	}
	return nil
}

// runSeparately runs the statements in multiple round trips, in one transaction. After an error the transaction is rolled
// back. The names of types are looked up between them, in the search path of the job: what they mean there stays in the job.
func (t *transaction) runSeparately(ctx context.Context, out *outcome) error {
	clear(t.ownTypes)
	defer clear(t.ownTypes)
	t.startRoundTrip(t.opts)
	ours := t.appendStart()
	t.buf = appendSync(t.buf)
	if err := t.firstRoundTrip(ctx, ours, out); err != nil {
		return err
	}
	if err := t.checkOutcome(ctx, out, 0); err != nil {
		return err
	}
	for i, stmt := range t.tx.Statements {
		set, err := t.runOne(ctx, stmt, i)
		if err != nil {
			if !t.dead {
				t.rollback()
			}
			return err
		}
		out.sets = append(out.sets, set)
	}
	return nil
}

// verify checks the guards and asks for the ledger row, in the open transaction.
func (t *transaction) verify(ctx context.Context, out *outcome) (*db.Entry, error) {
	if err := t.nameTypes(); err != nil {
		return nil, t.ownError(ctx, err)
	}
	for i := range t.tx.Expect {
		if failure := engine.CheckGuard(t.tx.Expect, i, out.sets[i].RowsAffected); failure != nil {
			return nil, failure
		}
	}
	if err := t.checkAffected(ctx, t.before); err != nil {
		return nil, err
	}
	if t.seal == nil {
		return nil, nil
	}
	if !t.deadline.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, t.deadline)
		defer stop()
	}
	return t.seal(ctx, out.sets)
}

// bounds reports whether the call's bounds still hold: after it COMMIT is on its way.
func (t *transaction) bounds(ctx context.Context) error {
	if ctx.Err() != nil {
		return engine.GivenUp(context.Cause(ctx))
	}
	if !t.deadline.IsZero() && !time.Now().Before(t.deadline) {
		return engine.TimeOver()
	}
	return nil
}

// rollback ends the transaction and does not wait for the answer. The call's own bounds may be over, and are not in force
// any more: whatever goes on in the session needs new ones.
func (t *transaction) rollback() {
	t.unwatch()
	_ = t.net.SetDeadline(time.Now().Add(rollbackGrace))
	t.undo()
}

// commit writes the ledger row, if any, and commits.
func (t *transaction) commit(ctx context.Context, entry *db.Entry) error {
	t.buf, t.unconfirmed = t.buf[:0], false
	joined := t.ends.joined
	if entry != nil {
		t.appendLogin()
		// Append what writes the ledger row, its arguments in binary form: the answer goes as it is. It has no name, which a
		// job could give to another statement; it is parsed unless the server still has it from the job before.
		if !entry.Supersedes.IsZero() {
			t.buf = appendParse(t.buf, "", supersedingFence, nil)
			defer func() { t.fence = false }() // the server has the other statement then
		} else if !t.fence {
			t.buf = appendParse(t.buf, "", fenceEntry, nil)
		}
		t.buf = appendExecute(t.appendEntry(t.buf, "", entry))
		if !joined {
			t.buf = appendSync(t.buf)
		}
	}
	t.buf = append(t.buf, t.ends.commit...)
	sentAt := len(t.buf) // what comes before it has reached the server may have committed, with or without what follows
	if joined {
		t.buf = appendSync(t.buf)
	}
	t.buf = append(t.buf, t.ends.clean.after(t.session, entry != nil)...)
	if n, err := t.write(); err != nil {
		return t.cutCommit(ctx, n, sentAt, err)
	}
	if err := t.commitAnswers(ctx, entry != nil); err != nil {
		return t.lostCommit(ctx, sentAt, err)
	}
	t.flushed()
	if joined {
		t.pending++
	}
	return t.committed(ctx, entry != nil)
}

// appendLogin takes the session back from a role of the job's. What is deferred to the end of the transaction is done
// before, in that role.
func (t *transaction) appendLogin() {
	if !t.asLogin {
		return
	}
	for _, sql := range [len(t.toLogin)]string{"SET CONSTRAINTS ALL IMMEDIATE", "SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE"} {
		t.appendOurs(sql)
	}
}

// fenceEnds are the ends of the segment that writes the ledger row, and of what follows in it.
func (t *transaction) fenceEnds(ends ...*segmentEnd) []*segmentEnd {
	if !t.asLogin {
		return ends
	}
	t.toLogin = [3]segmentEnd{}
	return append([]*segmentEnd{&t.toLogin[0], &t.toLogin[1], &t.toLogin[2]}, ends...)
}

// commitAnswers reads the server's answers to the fence and to COMMIT.
func (t *transaction) commitAnswers(ctx context.Context, fenced bool) error {
	t.insertEnd, t.commitEnd = segmentEnd{}, segmentEnd{}
	if !fenced {
		return t.await(ctx, &t.commitEnd)
	}
	var err error
	if t.ends.joined {
		err = t.await(ctx, t.fenceEnds(&t.insertEnd, &t.commitEnd)...)
	} else if err = t.await(ctx, t.fenceEnds(&t.insertEnd)...); err == nil {
		err = t.await(ctx, &t.commitEnd)
	}
	return err
}

// await reads a segment's end, or those of its commands. When the call's bounds are over, the server is asked to cancel and given a short
// time for its answer: a definite end is worth more than a quick one.
func (t *transaction) await(ctx context.Context, ends ...*segmentEnd) error {
	err := t.readSegment(ends...)
	if !timedOut(err) || t.asked {
		return err
	}
	t.asked = true
	t.unwatch()
	t.markBroken(true) // the cancel request may arrive late and must not hit another job
	cancelCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), commitGrace)
	defer stop()
	_ = t.pg.CancelRequest(cancelCtx)
	_ = t.net.SetDeadline(time.Now().Add(commitGrace))
	return t.readSegment(ends...)
}

// lostCommit returns the outcome of a commit round trip whose answer was lost.
func (t *transaction) lostCommit(ctx context.Context, sentAt int, cause error) error {
	t.abandon(cause)
	if linkLost(cause) {
		t.d.lost()
	}
	_ = t.net.SetDeadline(time.Unix(1, 0))
	if w := t.flushed(); w != nil && w.err != nil && w.n < sentAt {
		return t.cutCommit(ctx, w.n, sentAt, w.err)
	}
	switch {
	case t.commitEnd.first == "COMMIT" && t.unconfirmed:
		return unconfirmedCommit()
	case t.commitEnd.first == "COMMIT":
		return nil
	case t.insertEnd.failed != nil && !unanswered(t.insertEnd.failed, true):
		return t.fenceError(ctx)
	case t.commitEnd.failed != nil && !unanswered(t.commitEnd.failed, true):
		return t.d.serverError(t.commitEnd.failed, "", -1)
	}
	return engine.UnknownCommit(cause)
}

// cutCommit returns the outcome of a commit round trip that could not be written completely.
func (t *transaction) cutCommit(ctx context.Context, n, sentAt int, cause error) error {
	t.abandon(cause)
	if n < sentAt {
		return t.linkError(ctx, cause)
	}
	return engine.UnknownCommit(cause)
}

// committed returns the outcome of a commit round trip that was answered completely.
func (t *transaction) committed(ctx context.Context, fenced bool) error {
	switch {
	case t.commitEnd.first == "COMMIT":
		// End a session whose clean-up behind a pooler's COMMIT failed.
		if t.commitEnd.failed != nil {
			t.markBroken(false)
		}
		t.fence = t.fence || fenced && t.statement.named
		if t.unconfirmed {
			return unconfirmedCommit()
		}
		return nil
	case fenced && t.toLogin[0].failed != nil: // a constraint that was deferred
		t.refused()
		return t.ended(ctx, t.d.serverError(t.toLogin[0].failed, "", -1))
	case fenced && t.insertEnd.failed != nil:
		t.refused()
		return t.fenceError(ctx)
	case t.commitEnd.failed != nil && unanswered(t.commitEnd.failed, false):
		t.markBroken(false)
		return engine.UnknownCommit(t.commitEnd.failed)
	case t.commitEnd.failed != nil:
		return t.ended(ctx, t.d.serverError(t.commitEnd.failed, "", -1))
	}
	return errTransactionEnded()
}

// refused ends the transaction whose fence failed: COMMIT, which stands behind it in the same segment, was skipped, and
// so the clean-up failed too.
func (t *transaction) refused() {
	if !t.ends.joined {
		return
	}
	for ; t.pending > 0; t.pending-- {
		if err := t.readSegment(new(segmentEnd)); err != nil {
			t.markBroken(false)
			return
		}
	}
	t.undo()
}

// fenceError is why the ledger row could not be written; the transaction is rolled back.
func (t *transaction) fenceError(ctx context.Context) error {
	e := t.insertEnd.failed
	switch e.Code {
	case "23505":
		return engine.AlreadyRecorded().Because(e)
	case "26000": // the server has no unnamed statement: what stands between has another session there
		t.again, t.retire = t.named && !t.dead, true
	case "42501": // the job may have taken another role
		t.again, t.asLogin = !t.asLogin && !t.dead, true
	}
	out := t.d.serverError(e, "", -1)
	out.Message = engine.RowNotWritten + out.Message
	if e.Code == noRow {
		out.Code, out.Message = contract.CodeDatabase, rowKeptOut
	}
	return t.standby(t.ended(ctx, out))
}

// ended corrects the class of an error that our own cancel request caused.
func (t *transaction) ended(ctx context.Context, e *db.Error) *db.Error {
	if e.EngineCode == "57014" && ctx.Err() != nil {
		e.Class, e.Code = db.ClassCanceled, db.CodeCanceled
	}
	return e
}

// standby distinguishes a server that takes no writes at all (a standby after a fail-over, a frozen database) from a
// job that made its own transaction read-only.
func (t *transaction) standby(e *db.Error) *db.Error {
	if e.EngineCode != "25006" || t.dead {
		return e
	}
	_ = t.net.SetDeadline(time.Now().Add(readyTimeout))
	rows, err := t.query(`SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'`)
	if err != nil || string(rows.first(0)) == "t" {
		t.markBroken(false)
		t.d.lost()
		e.Class, e.Code = db.ClassUnavailable, contract.CodeUnavailable
		e.Message = "the server accepts no writes: it is a standby or read-only"
	}
	return e
}
