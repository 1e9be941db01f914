package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// ownTimeout bounds the engine's own queries beyond the time for a lock.
const ownTimeout = 15 * time.Second

const (
	// insertEntry is the fence: a plain INSERT, whose taken key fails.
	insertEntry = `INSERT INTO dbrunner.ledger
	(namespace, database_name, job_id, request_hash, status, answer, sequence, message_time, runner)
	VALUES (@namespace, @name, @job, @hash, @status, SUBSTRING(@answer, 1, @length), @sequence, @time, @runner)`
	// supersede is insertEntry, unless there is a row with the key that was recorded before a time: it is written over.
	supersede = `UPDATE dbrunner.ledger SET request_hash = @hash, status = @status, answer = SUBSTRING(@answer, 1, @length), sequence = @sequence,
	message_time = @time, runner = @runner, recorded_at = SYSUTCDATETIME()
	WHERE ` + theKey + ` AND recorded_at < CAST(@supersedes AS datetime2(7)); IF @@ROWCOUNT = 0 ` + insertEntry
	// theKey names one row. The arguments have the widest type, so that the server keeps one plan whatever their
	// length; the casts give them the columns' own.
	theKey = `namespace = CAST(@namespace AS varchar(128)) AND database_name = CAST(@name AS varchar(64))
	AND job_id = CAST(@job AS varchar(128))`
	// passing leaves out rows that others hold. It needs locks, which READ_COMMITTED_SNAPSHOT would do without.
	passing = ` WITH (READCOMMITTEDLOCK, READPAST)`
	// lookupEntry does not wait for a transaction that inserts the key: a row that it holds is passed over.
	lookupEntry = `SELECT request_hash, status, answer, sequence, message_time, runner, recorded_at
	FROM dbrunner.ledger` + passing + ` WHERE ` + theKey
	// readEntry waits for the session that holds the row.
	readEntry = `SELECT request_hash, status, answer, sequence, message_time, runner, recorded_at
	FROM dbrunner.ledger WHERE ` + theKey
	ourRows = `namespace = CAST(@namespace AS varchar(128)) AND database_name = CAST(@name AS varchar(64))`
	oldRows = ourRows + ` AND recorded_at < CAST(@before AS datetime2(7))`
	// sweepEntries compares the age once more where a row is deleted: in between its job may have been recorded again.
	sweepEntries = `DELETE FROM dbrunner.ledger` + passing + ` WHERE ` + oldRows + ` AND job_id IN
	(SELECT TOP (@limit) job_id FROM dbrunner.ledger` + passing + ` WHERE ` + oldRows + ` ORDER BY recorded_at)`
)

// Numbers of a taken key: of the primary key, or of a unique index that a DBA made in its place.
const (
	takenKey   = 2627
	takenIndex = 2601
)

func arg(name string, value driver.Value) driver.NamedValue {
	return driver.NamedValue{Name: name, Value: value}
}

// numbered gives arguments their places.
func numbered(args []driver.NamedValue) []driver.NamedValue {
	for i := range args {
		args[i].Ordinal = i + 1
	}
	return args
}

// key is a ledger row's key.
func (d *Database) key(jobID string) []driver.NamedValue {
	return []driver.NamedValue{
		arg("namespace", mssql.VarCharMax(d.opts.Namespace)),
		arg("name", mssql.VarCharMax(d.opts.Name)),
		arg("job", mssql.VarCharMax(jobID)),
	}
}

// hash is a request's hash; without one it is a NULL of its type.
func hash(h []byte) driver.Value {
	if h == nil {
		return nullBytes
	}
	return h
}

// timeLayout is the form in which a time is sent.
const timeLayout = "2006-01-02T15:04:05.9999999"

// insertOf is the statement that inserts a row.
func insertOf(e *db.Entry) string {
	if e.Supersedes.IsZero() {
		return insertEntry
	}
	return supersede
}

func (d *Database) entryArgs(e *db.Entry) []driver.NamedValue {
	args := append(d.key(e.JobID),
		arg("hash", hash(e.RequestHash)),
		arg("status", mssql.VarCharMax(e.Status)),
		arg("answer", padded(e.Answer)), arg("length", int64(len(e.Answer))),
		arg("sequence", int64(e.Sequence)),
		arg("time", e.Timestamp.UnixNano()),
		arg("runner", mssql.VarCharMax(e.Runner)),
	)
	if !e.Supersedes.IsZero() {
		args = append(args, arg("supersedes", mssql.NVarCharMax(e.Supersedes.UTC().Format(timeLayout))))
	}
	return args
}

// shortBytes is the most that varbinary holds without being varbinary(max).
const shortBytes = 8000

// padded brings an answer to one of few lengths: the driver declares a binary value by its length, and the server keeps a plan for each declaration.
func padded(answer []byte) []byte {
	if len(answer) > shortBytes {
		return answer
	}
	n := 256
	for n < len(answer) {
		n *= 2
	}
	out := make([]byte, min(n, shortBytes))
	copy(out, answer)
	return out
}

// What a fence says.
const (
	fenceHolds = 1
	fenceEnded = 0 // the transaction is not the one that was started
	fenceNoRow = 2 // the row was written and is not there
)

// fenceRequest verifies the transaction and, with an entry, writes the ledger row and looks for it: a trigger may have
// kept it out, or ended the transaction.
func (d *Database) fenceRequest(s *session, transaction int64, entry *db.Entry) request {
	args := []driver.NamedValue{arg("database", s.database), arg("transaction", transaction)}
	write := "SELECT CAST(1 AS bigint)"
	if entry != nil {
		write = insertOf(entry) + "; SELECT CAST(CASE WHEN NOT (" + atDepth + ") THEN 0 WHEN EXISTS (SELECT 1 FROM dbrunner.ledger WHERE " +
			theKey + ") THEN 1 ELSE 2 END AS bigint)"
		args = append(args, d.entryArgs(entry)...)
	}
	// The condition that the transaction under way is the one that was started, open, in its own database.
	text := d.texts.limits + "IF " + atDepth + " AND XACT_STATE() = 1 AND DB_ID() = @database AND " + d.transactionID() + " = @transaction BEGIN " + write + " END ELSE SELECT CAST(0 AS bigint)"
	return request{text: text, args: numbered(args)}
}

// taken reports that the key of a ledger row is taken.
func taken(e *mssql.Error) bool { return e.Number == takenKey || e.Number == takenIndex }

// fenceError is why the ledger row could not be written in a job's transaction, which is rolled back. It says nothing of
// the server: the job may have done anything to the ledger there. If the ledger is not as it must be for others either,
// the session that records the job's outcome meets that.
func (d *Database) fenceError(e mssql.Error) *db.Error {
	out := d.serverError(e, -1)
	if taken(&e) {
		out.Class, out.Message = db.ClassAlreadyRecorded, engine.RecordedMessage
		return out
	}
	out.Message = engine.RowNotWritten + out.Message
	return out
}

// ledgerError is an error of a statement of the engine's own on the ledger, outside of any job's transaction.
func (d *Database) ledgerError(e mssql.Error) *db.Error {
	out := d.serverError(e, -1)
	switch {
	case taken(&e):
		out.Class, out.Message = db.ClassAlreadyRecorded, engine.RecordedMessage
	case out.Code == contract.CodeUndefined || out.Code == contract.CodePermission || out.Code == contract.CodeReadOnly:
		out.Class, out.Code = db.ClassUnavailable, contract.CodeUnavailable
		out.Message = "the ledger (table dbrunner.ledger) is missing, wrong or not writable by this login: " +
			"`runner ledger ddl` prints the expected table"
	}
	return out
}

// own runs queries of the engine's own, each a transaction of its own. lost is what a lost link means for them.
func (d *Database) own(ctx context.Context, lost db.Class, work func(ctx context.Context, s *session) error) error {
	s, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer d.release(s)
	ctx, done := s.limit(ctx, ownTimeout+d.opts.Limits.LockTimeout)
	defer done()
	err = work(ctx, s)
	if err == nil {
		return nil
	}
	var failure *db.Error
	if e, ok := errors.AsType[mssql.Error](err); ok && ctx.Err() == nil {
		if failure = d.ledgerError(e); failure.Class == db.ClassLost {
			s.kill()
		}
	} else {
		failure = d.failure(ctx, s, err, -1)
	}
	if s.dead && failure.EngineCode == "" && lost == db.ClassUnknown {
		failure.Class = lost
	}
	s.rollback(ctx)
	return failure
}

// ask runs one query of the engine's own, outside of a job's transaction.
func (d *Database) ask(ctx context.Context, s *session, text string, args []driver.NamedValue) (*table, error) {
	t := &table{}
	return t, s.run(ctx, request{text: d.texts.own + text, args: numbered(args)}, t)
}

// Record inserts a ledger row in a transaction of its own, unless its key is taken: then the row that is there comes
// back, and false. It waits for a transaction under way with the same key, at most the lock time limit.
func (d *Database) Record(ctx context.Context, entry *db.Entry) (recorded *db.Entry, inserted bool, err error) {
	err = d.own(ctx, db.ClassUnknown, func(ctx context.Context, s *session) error {
		recorded, inserted, err = d.record(ctx, s, entry)
		return err
	})
	return recorded, inserted, err
}

func (d *Database) record(ctx context.Context, s *session, entry *db.Entry) (*db.Entry, bool, error) {
	// A row that is in the way may be deleted before it is read, but only by a clean-up: once or twice.
	for range 3 {
		t, err := d.ask(ctx, s, insertOf(entry)+"; SELECT recorded_at FROM dbrunner.ledger WHERE "+theKey, d.entryArgs(entry))
		if err == nil {
			out := *entry
			if at, ok := t.first()[0].(time.Time); ok {
				out.RecordedAt = at.UTC()
				return &out, true, nil
			}
			out.RecordedAt = time.Now().UTC() // already swept: the clock of this machine will do
			return &out, true, nil
		}
		if e, ok := errors.AsType[mssql.Error](err); !ok || !taken(&e) {
			return nil, false, err
		}
		if existing, err := d.find(ctx, s, readEntry, entry.JobID); existing != nil || err != nil {
			return existing, false, err
		}
	}
	return nil, false, engine.RowNotRead()
}

// Lookup reads a ledger row; nil if there is none.
func (d *Database) Lookup(ctx context.Context, jobID string) (entry *db.Entry, err error) {
	err = d.own(ctx, db.ClassLost, func(ctx context.Context, s *session) error {
		entry, err = d.find(ctx, s, lookupEntry, jobID)
		return err
	})
	return entry, err
}

func (d *Database) find(ctx context.Context, s *session, text, jobID string) (*db.Entry, error) {
	t, err := d.ask(ctx, s, text, d.key(jobID))
	if err != nil || len(t.rows) == 0 {
		return nil, err
	}
	row := t.first()
	e := &db.Entry{JobID: jobID}
	var ok [7]bool
	if e.RequestHash, ok[0] = row[0].([]byte); row[0] == nil {
		ok[0] = true
	}
	e.Status, ok[1] = row[1].(string)
	e.Answer, ok[2] = row[2].([]byte)
	sequence, isSequence := row[3].(int64)
	e.Sequence, ok[3] = uint64(sequence), isSequence
	nanos, isTime := row[4].(int64)
	e.Timestamp, ok[4] = time.Unix(0, nanos).UTC(), isTime
	e.Runner, ok[5] = row[5].(string)
	at, isAt := row[6].(time.Time)
	e.RecordedAt, ok[6] = at.UTC(), isAt
	if ok != [7]bool{true, true, true, true, true, true, true} {
		return nil, db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
			"a column of dbrunner.ledger has another type: `runner ledger ddl` prints the expected table")
	}
	return e, nil
}

// Sweep deletes at most limit ledger rows that were recorded earlier than before, the oldest first, and leaves out those that others hold.
func (d *Database) Sweep(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	err = d.own(ctx, db.ClassLost, func(ctx context.Context, s *session) error {
		t, err := d.ask(ctx, s, sweepEntries, []driver.NamedValue{
			arg("namespace", mssql.VarCharMax(d.opts.Namespace)), arg("name", mssql.VarCharMax(d.opts.Name)),
			arg("limit", int64(limit)), arg("before", mssql.NVarCharMax(before.UTC().Format(timeLayout))),
		})
		deleted = int(t.n)
		return err
	})
	return deleted, err
}

// Now is the server's clock.
func (d *Database) Now(ctx context.Context) (now time.Time, err error) {
	err = d.own(ctx, db.ClassLost, func(ctx context.Context, s *session) error {
		t, err := d.ask(ctx, s, "SELECT SYSUTCDATETIME()", nil)
		if err != nil {
			return err
		}
		at, ok := t.first()[0].(time.Time)
		if !ok {
			return errors.New("sqlserver: the server does not return its time")
		}
		now = at.UTC()
		return nil
	})
	return now, err
}
