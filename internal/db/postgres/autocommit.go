package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

const (
	// stopGrace is how long the server has to report what became of a statement that it was asked to stop.
	stopGrace = 5 * time.Second
	// closeTimeout bounds what is done on the session once the statement has ended.
	closeTimeout = 5 * time.Second
	// idleLimit is how long a session may hold a job's lock without saying anything. The lock of a machine that is gone
	// would stay until TCP gives up, after hours; PostgreSQL 14 and later.
	idleLimit = 30 * time.Second
)

const (
	// setUpAlone gives the session what one statement needs, until RESET ALL takes it back.
	setUpAlone = `SELECT pg_catalog.set_config('statement_timeout', $1, false),
		pg_catalog.set_config('lock_timeout', coalesce(nullif($2, ''), current_setting('lock_timeout')), false),
		pg_catalog.set_config('application_name', coalesce(nullif($3, ''), current_setting('application_name')), false)`
	// tryLock never waits: CREATE INDEX CONCURRENTLY waits for every statement that was started before it ends.
	tryLock = `SELECT pg_catalog.pg_try_advisory_lock($1::bigint),
		(SELECT pg_catalog.set_config(name, $2, false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout')`
	// concludeEntry writes an end over a row that has none; its arguments are those of insertEntry.
	concludeEntry = `UPDATE dbrunner.ledger SET request_hash = $4, status = $5, answer = $6, recorded_at = DEFAULT,
		runner = CASE WHEN pg_catalog.set_config('synchronous_commit', $10, true) IS NOT NULL THEN $9::text END
	WHERE namespace = $1 AND database_name = $2 AND job_id = $3 AND status = 'started' AND sequence = $7 AND message_time = $8`
	concluded = ` RETURNING ` + recordedAt
)

// Execute runs one statement outside of any transaction: it is a segment of its own, and so is everything of ours. A
// pooler in transaction mode leaves no session that could have limits, settings or a lock: nothing is run behind one.
func (d *Database) Execute(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once,
) (db.ResultSet, error) {
	if d.opts.TransactionPool {
		return db.ResultSet{}, db.Errorf(db.ClassPermanent, contract.CodeNotSupported,
			"a statement outside a transaction needs its own session, which a pooler in transaction mode does not give")
	}
	l, err := d.begin(ctx, &call, opts)
	if err != nil {
		return db.ResultSet{}, err
	}
	defer l.done()
	l.retire = true // until it is clean
	a := autocommit{lease: l, call: &call, stmt: stmt, opts: opts, once: once}
	set, err := a.run(ctx)
	a.clean()
	l.over = true
	return set, err
}

// autocommit is one Execute under way.
type autocommit struct {
	*lease
	call *db.Call
	stmt *dialect.Compiled
	opts db.RowOptions
	once *db.Once
	gone bool // the link, so that nothing can be asked any more
}

func (a *autocommit) run(ctx context.Context) (db.ResultSet, error) {
	clear(a.ownTypes) // there is no second attempt if one of them is another by now
	if err := a.resolve([]*dialect.Compiled{a.stmt}); err != nil {
		return db.ResultSet{}, a.ownError(ctx, err)
	}
	if err := a.setUp(); err != nil {
		return db.ResultSet{}, a.ownError(ctx, err)
	}
	if err := a.start(ctx); err != nil {
		return db.ResultSet{}, err
	}
	set, err := a.statement(ctx)
	return set, a.end(set, err)
}

// setUp sets the limits. CONCURRENTLY waits for the transactions of others and blocks none of them meanwhile, so that the job's
// own time limit is enough; any other statement would keep everybody waiting behind it: the lock time limit stays.
func (a *autocommit) setUp() error {
	timeout, lock, label := "0", "", ""
	if !a.deadline.IsZero() {
		timeout = milliseconds(serverTimeout(time.Until(a.deadline)))
	}
	if dialect.HasWord(a.d.dialect, a.stmt.SQL, "CONCURRENTLY") {
		lock = "0"
	}
	if a.d.settings.label && a.call.Label != "" {
		label = sessionLabel(a.call.Label)
	}
	_, err := a.query(setUpAlone, timeout, lock, label)
	return err
}

// start takes the job's lock and commits the row that reports that the job was started.
func (a *autocommit) start(ctx context.Context) error {
	if a.once == nil {
		return nil
	}
	rows, err := a.query(tryLock, strconv.FormatInt(a.d.lockKey(a.once.Start.JobID), 10), milliseconds(idleLimit))
	if err != nil {
		return a.ownError(ctx, err)
	}
	if string(rows.first(0)) != "t" {
		return engine.Executing()
	}
	_, _, err = a.writeEntry(fenceOf(a.once.Start), a.once.Start)
	if err == nil {
		crash.At("after_started")
		return nil
	}
	pg, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case !answered, unanswered(pg, a.dead):
		a.gone = true
		return db.OutcomeUnknown(err)
	case pg.Code == "23505":
		return engine.AlreadyRecorded().Because(pg)
	case pg.Code == noRow:
		return db.Errorf(db.ClassPermanent, contract.CodeDatabase, rowKeptOut).Because(pg)
	}
	out := a.d.serverError(pg, "", -1)
	out.Message = engine.RowNotWritten + out.Message
	return noWrites(out)
}

// lockKey is the number of a job's lock.
func (d *Database) lockKey(jobID string) int64 {
	name := engine.JobLock(d.opts.Namespace, d.opts.Name, jobID)
	return int64(binary.BigEndian.Uint64(name[:]))
}

// statement runs the job's statement to its end. When the call's bounds are over, the server is asked to stop it and has
// a short time to report what became of it: a definite end is worth more than a quick one.
func (a *autocommit) statement(ctx context.Context) (db.ResultSet, error) {
	var one [1]db.ResultSet
	out := outcome{sets: one[:0]}
	a.startRoundTrip(a.opts)
	if err := a.appendStatement(a.stmt, false); err != nil {
		a.forgetUnsent()
		return db.ResultSet{}, engine.NotEncoded(err).At(0)
	}
	a.buf, a.unconfirmed = appendSync(a.buf), false
	_, err := a.write()
	if err == nil {
		r := reader{s: a.session, out: &out, whole: true}
		if err = r.run(); timedOut(err) {
			a.stop(ctx)
			err = r.run()
		}
	}
	a.forgetUnsent()
	return a.judge(ctx, &out, err)
}

// stop asks the server to stop the statement. Its answer to that may come late: the session is not used for another job.
func (a *autocommit) stop(ctx context.Context) {
	a.unwatch()
	a.markBroken(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	_ = a.net.SetDeadline(time.Now().Add(stopGrace))
	_ = a.pg.CancelRequest(ctx)
}

// judge reports how the statement ended. It counts only when the server was ready again: what runs in a transaction of its
// own is committed behind the answer to it.
func (a *autocommit) judge(ctx context.Context, out *outcome, err error) (db.ResultSet, error) {
	out.at = 0
	if err == nil {
		a.flushed()
	} else {
		a.gone = true
		a.abandon(err)
		if linkLost(err) {
			a.d.lost()
		}
	}
	switch {
	case out.failed != nil && !unanswered(out.failed, err != nil):
		return db.ResultSet{}, a.failure(ctx, out).NotRolledBack()
	case out.failed != nil:
		a.markBroken(false)
		return db.ResultSet{}, db.OutcomeUnknown(out.failed)
	case err != nil && out.refuse != nil && out.refuse.Code == contract.CodeNotSupported: // COPY, which waits for us
		return db.ResultSet{}, out.refuse.At(0)
	case err != nil:
		return db.ResultSet{}, db.OutcomeUnknown(err)
	case a.status != 'I':
		a.markBroken(false)
		return db.ResultSet{}, errTransactionEnded().At(0)
	case a.unconfirmed && a.once == nil: // else the row of the end is what a standby confirms, and all before it
		return db.ResultSet{}, db.OutcomeUnknown(unconfirmedCommit())
	}
	// The statement took effect.
	var set db.ResultSet
	if len(out.sets) > 0 {
		set = out.sets[0]
	}
	refused := out.refuse
	if refused == nil {
		if err := a.nameTypes(); err != nil {
			refused = db.Errorf(db.ClassTookEffect, contract.CodeDatabase, "the types of the columns could not be read").Because(err)
			set.Free()
			set = db.ResultSet{RowsAffected: set.RowsAffected, Command: set.Command}
		}
	}
	if refused == nil {
		return set, nil
	}
	if refused.Code != contract.CodeTransactionAborted {
		refused.Class = db.ClassTookEffect
	}
	return set, refused.At(0)
}

// end writes the row of the job's end while the session still has the job's lock. The call's own bounds may be over.
func (a *autocommit) end(set db.ResultSet, err error) error {
	if a.once == nil || db.ClassOf(err) == db.ClassUnknown {
		return err
	}
	row := a.once.End(set, err)
	a.unwatch()
	if a.gone {
		return db.OutcomeUnknown(err)
	}
	_ = a.net.SetDeadline(time.Now().Add(closeTimeout))
	_, written, failed := a.writeEntry(concludeEntry, row)
	switch {
	case failed != nil: // the job may have taken the session's rights
		a.markBroken(false)
		return db.OutcomeUnknown(failed)
	case written == 0:
		return engine.OtherEnd()
	}
	return err
}

// clean leaves the session as it was, without any lock, for the next call; else it stays retired.
func (a *autocommit) clean() {
	a.unwatch()
	if a.dead || a.status != 'I' {
		return
	}
	_ = a.net.SetDeadline(time.Now().Add(closeTimeout))
	a.retire = a.session.clean(a.ends.clean.in(a.session)) != nil
}

// RecordEnd writes the end of a job that was started, unless another one is there or, where it is not the caller's own, the
// job's lock is held. The lock is tried in the same statement and released with its transaction.
func (d *Database) RecordEnd(ctx context.Context, end *db.Entry, own bool) (row *db.Entry, written bool, err error) {
	sql := concludeEntry
	if !own {
		sql += " AND pg_catalog.pg_try_advisory_xact_lock(" + strconv.FormatInt(d.lockKey(end.JobID), 10) + ")"
	}
	err = d.own(ctx, db.ClassUnknown, func(l *lease) error {
		rows, _, err := l.writeEntry(sql+concluded, end)
		if err != nil {
			return err
		}
		if written = len(rows) == 1; written {
			out := *end
			out.RecordedAt, err = time.Parse(time.RFC3339Nano, string(rows.first(0)))
			row = &out
			return err
		}
		row, err = l.lookup(end.JobID)
		return err
	})
	return row, written, err
}
