package sqlserver

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// closeTimeout bounds what is done on the session once the statement has ended.
const closeTimeout = 5 * time.Second

const (
	// tryLock never waits. A lock of the session goes with it, or with the reset before its next job.
	tryLock = `DECLARE @dbr_lock int; EXEC @dbr_lock = sp_getapplock @Resource = @resource, @LockMode = 'Exclusive',
	@LockOwner = 'Session', @LockTimeout = 0; SELECT CAST(@dbr_lock AS bigint)`
	unlock = `EXEC sp_releaseapplock @Resource = @resource, @LockOwner = 'Session'`
	// concludeEntry writes an end over a row that has none; its arguments are those of insertEntry.
	concludeEntry = `UPDATE dbrunner.ledger SET request_hash = @hash, status = @status, answer = SUBSTRING(@answer, 1, @length),
	runner = @runner, recorded_at = SYSUTCDATETIME()
	WHERE ` + theKey + ` AND status = 'started' AND sequence = @sequence AND message_time = @time; SELECT CAST(@@ROWCOUNT AS bigint)`
	// concludeFree does so if no session holds the job's lock, which it has for its own transaction.
	concludeFree = `DECLARE @dbr_lock int; BEGIN TRANSACTION; EXEC @dbr_lock = sp_getapplock @Resource = @resource,
	@LockMode = 'Exclusive', @LockOwner = 'Transaction', @LockTimeout = 0;
	IF @dbr_lock >= 0 BEGIN ` + concludeEntry + ` END ELSE SELECT CAST(0 AS bigint); COMMIT TRANSACTION`
)

// Execute runs one statement outside of any transaction, in a request of its own.
func (d *Database) Execute(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once,
) (db.ResultSet, error) {
	if faults := dialect.CheckAutocommit(d.dialect, stmt.SQL); len(faults) > 0 {
		return db.ResultSet{}, faultError(&faults[0], 0)
	}
	s, err := d.begin(ctx, &call)
	if err != nil {
		return db.ResultSet{}, err
	}
	a := autocommit{session: s, d: d, call: &call, stmt: stmt, once: once}
	defer a.leave()
	s.encoder.Reset(opts)
	set, err := a.bounded(ctx)
	return set, a.end(ctx, set, err)
}

// autocommit is one Execute under way.
type autocommit struct {
	*session
	d       *Database
	call    *db.Call
	stmt    *dialect.Compiled
	once    *db.Once
	locked  bool // the session has the job's lock
	started bool // the row reports that the job was started, or no row is asked for
	clean   bool // the session may have another job
}

// bounded is everything that the call's bounds hold for.
func (a *autocommit) bounded(ctx context.Context) (db.ResultSet, error) {
	ctx, done := a.limit(ctx, a.call.Timeout)
	defer done()
	if err := a.start(ctx); err != nil {
		return db.ResultSet{}, err
	}
	a.started = true
	r, err := call(a.stmt)
	if err != nil {
		return db.ResultSet{}, a.d.failure(ctx, a.session, err, 0)
	}
	out := drainingCollector{collector: collector{encoder: &a.encoder}}
	err = a.run(ctx, r, &out)
	switch {
	case err != nil && a.dead:
		a.d.lost()
		return db.ResultSet{}, db.OutcomeUnknown(err)
	case err != nil && ctx.Err() != nil:
		return db.ResultSet{}, stopped(ctx).At(0)
	case err != nil:
		failure := a.d.failure(ctx, a.session, err, 0)
		if failure.Class == db.ClassLost {
			return db.ResultSet{}, db.OutcomeUnknown(err)
		}
		return db.ResultSet{}, failure.NotRolledBack()
	case out.refused != nil:
		set := db.ResultSet{RowsAffected: out.affected}
		refused := engine.NotEncoded(out.refused)
		refused.Class = db.ClassTookEffect
		return set, refused.At(0)
	}
	return out.set(), nil
}

// start sets the limits, takes the job's lock and commits the row that reports that the job was started.
func (a *autocommit) start(ctx context.Context) error {
	if _, err := a.query(ctx, a.d.texts.own+a.d.labelSQL(a.call.Label)+"SELECT 1"); err != nil {
		return a.d.failure(ctx, a.session, err, -1)
	}
	if a.once == nil {
		return nil
	}
	t := &table{}
	lock := request{text: tryLock, args: numbered(a.d.lockArgs(a.once.Start.JobID))}
	if err := a.run(ctx, lock, t); err != nil {
		return a.d.failure(ctx, a.session, err, -1)
	}
	if n, ok := last(t); !ok || n < 0 {
		return engine.Executing()
	}
	a.locked = true
	_, err := a.d.ask(ctx, a.session, insertOf(a.once.Start), a.d.entryArgs(a.once.Start))
	if err == nil {
		crash.At("after_started")
		return nil
	}
	e, said := errors.AsType[mssql.Error](err)
	if !said || !answered(err) {
		a.kill()
		return db.OutcomeUnknown(err)
	}
	return a.d.ledgerError(e)
}

// lockArgs names a job's lock.
func (d *Database) lockArgs(jobID string) []driver.NamedValue {
	name := engine.JobLock(d.opts.Namespace, d.opts.Name, jobID)
	return []driver.NamedValue{arg("resource", mssql.NVarCharMax("dbrunner "+hex.EncodeToString(name[:])))}
}

// last is the number in the last row of an answer.
func last(t *table) (int64, bool) {
	if len(t.rows) == 0 {
		return 0, false
	}
	n, ok := t.rows[len(t.rows)-1][0].(int64)
	return n, ok
}

// stopped is the end of a statement that the server has stopped on request, and confirmed so.
func stopped(ctx context.Context) *db.Error {
	e := interrupted(ctx)
	e.Message = "the time limit was reached; the server stopped the statement"
	if e.Class == db.ClassCanceled {
		e.Message = "the job was stopped, and the server has stopped the statement"
	}
	return e.NotRolledBack()
}

// end writes the row of the job's end while the session has the job's lock. The call's own bounds may be over.
func (a *autocommit) end(ctx context.Context, set db.ResultSet, err error) error {
	if a.dead {
		// The server reported an outcome that cannot be written on this session any more.
		if a.once == nil || !a.started || db.ClassOf(err) == db.ClassUnknown {
			return err
		}
		a.once.End(set, err)
		return db.OutcomeUnknown(err)
	}
	ctx, done := a.limit(context.WithoutCancel(ctx), closeTimeout)
	defer done()
	if a.started {
		err = a.settled(ctx, err)
	}
	if a.once != nil && a.started && db.ClassOf(err) != db.ClassUnknown {
		err = a.conclude(ctx, a.once.End(set, err), err)
	}
	if a.locked && !a.dead {
		unlocking := request{text: unlock, args: numbered(a.d.lockArgs(a.once.Start.JobID))}
		if a.run(ctx, unlocking, &table{}) != nil {
			a.kill()
		}
	}
	a.clean = !a.dead
	return err
}

// settled rolls back what a statement has left open: it is no end that it succeeded.
func (a *autocommit) settled(ctx context.Context, err error) error {
	t, failed := a.query(ctx, a.d.texts.limits+"DECLARE @dbr_open bigint = @@TRANCOUNT; "+rollbackSQL+"; SELECT @dbr_open")
	if failed != nil {
		a.kill()
		return err
	}
	if n, ok := last(t); err == nil && (!ok || n > 0) {
		return errTransactionEnded().At(0)
	}
	return err
}

// conclude writes the end of the job's own execution.
func (a *autocommit) conclude(ctx context.Context, row *db.Entry, err error) error {
	if a.dead {
		return db.OutcomeUnknown(err)
	}
	t, failed := a.d.ask(ctx, a.session, concludeEntry, a.d.entryArgs(row))
	n, ok := last(t)
	switch {
	case failed != nil || !ok:
		a.kill()
		return db.OutcomeUnknown(failed)
	case n == 0:
		return engine.OtherEnd()
	}
	return err
}

// leave gives the session back, and closes it where it may still have the job's lock.
func (a *autocommit) leave() {
	if !a.clean {
		a.kill()
	}
	a.d.release(a.session)
}

// RecordEnd writes the end of a job that was started, unless another one is there or, where it is not the caller's own, the
// job's lock is held.
func (d *Database) RecordEnd(ctx context.Context, end *db.Entry, own bool) (row *db.Entry, written bool, err error) {
	err = d.own(ctx, db.ClassUnknown, func(ctx context.Context, s *session) error {
		text, args := concludeEntry, d.entryArgs(end)
		if !own {
			text, args = concludeFree, append(args, d.lockArgs(end.JobID)...)
		}
		t, err := d.ask(ctx, s, text, args)
		if err != nil {
			return err
		}
		n, _ := last(t)
		written = n > 0
		row, err = d.find(ctx, s, readEntry, end.JobID)
		return err
	})
	return row, written, err
}

// drainingCollector is the receiver of a statement that nothing takes back: what is refused of its answer is read all the same.
type drainingCollector struct {
	collector
	refused  error
	affected int64
}

func (p *drainingCollector) columns(columns []column) error {
	if p.refused == nil {
		p.refused = p.collector.columns(columns)
	}
	return nil
}

func (p *drainingCollector) row(values []driver.Value) error {
	if p.refused == nil {
		p.refused = p.collector.row(values)
	}
	return nil
}

func (p *drainingCollector) count(rows int64) error {
	p.affected = rows
	if p.refused == nil {
		p.refused = p.collector.count(rows)
	}
	return nil
}

func (p *drainingCollector) next() error {
	if p.refused == nil {
		p.refused = p.collector.next()
	}
	return nil
}
