package migration

import (
	"context"
	"database/sql"
	"errors"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Engine is what the package needs of a database engine.
type Engine interface {
	// Dialect returns how the text of files is read.
	Dialect() *dialect.Dialect

	// Open returns the database for migrations: sessions without a limit on the time of a statement. One for looking
	// only creates nothing, whatever is asked of it. It connects to nothing. The caller closes it.
	Open(looking bool) (*sql.DB, error)

	// SQL returns the engine's texts.
	SQL() *SQL

	// TryLock takes the lock of migrations for the session, which keeps it until it ends, and reports whether it could.
	// A session that has it already may take it again. No statement stays open while another process has it: one that
	// waited would be in the way of CREATE INDEX CONCURRENTLY.
	TryLock(ctx context.Context, session *sql.Conn) (bool, error)

	// Holder describes the session that has the lock of migrations, without taking it; "" if none has it, or the engine
	// does not know.
	Holder(ctx context.Context, session *sql.Conn) (string, error)

	// Versions opens golang-migrate's driver, which creates its table of the version where it is missing. It must be
	// called while no session has the lock of migrations, not even the caller's; if one took it meanwhile, it fails in
	// a bounded time. The caller closes it.
	Versions(ctx context.Context) (Versions, error)

	// Prepare makes a session ready for a file, before its transaction is started if it has one.
	Prepare(ctx context.Context, session *sql.Conn, file *File) error

	// AfterBegin inspects the transaction that was started for a file. What it returns, if anything, is called there when
	// the file has run: its error keeps the file from being applied.
	AfterBegin(ctx context.Context, session *sql.Conn, file *File) (check func(context.Context) error, err error)

	// Verify looks, when a file has run, whether the session is still in the transaction that was started for it (in none
	// for a file that runs stepwise), and makes it ready for the statements of this package. A transaction that has
	// been ended by the file itself is ErrEnded: what it did may have stayed.
	Verify(ctx context.Context, session *sql.Conn, file *File) error

	// Explain makes an error of the driver one that can be shown: with its class, and without any SQL. part is what ran,
	// nil for statements of this package.
	Explain(err error, part *dialect.Part) *db.Error
}

// ErrEnded is returned when a file has ended its transaction itself.
var ErrEnded = errors.New("migration: the file ended its transaction")

// Versions keeps the version of a database by golang-migrate's driver of the engine.
type Versions interface {
	// Set sets the version, -1 for none. It ends soon after the context's end, although the driver knows none.
	Set(ctx context.Context, number int64, dirty bool) error
	Close() error
}

// SQL are an engine's texts. Their arguments come in the order of the engine's placeholders.
type SQL struct {
	// HasVersion and HasHistory return one row with a number: 0 if the table is missing.
	HasVersion, HasHistory string
	// Version returns version and dirty, no row if there is none.
	Version string
	// CreateHistory creates the table of the history where it is missing, one statement after the other in one
	// transaction.
	CreateHistory []string
	// History returns the columns of a Record, oldest first, times as RFC 3339.
	History string
	// Note inserts a record and returns its id: version, label, file, direction, sha256, mode, state, statements,
	// statement, runner, job, message, duration (ms).
	Note string
	// Mark changes a record: state, mode, statement, duration (ms), id. Where the state is not running, it sets the end.
	Mark string

	// Begin starts a transaction that may write, in which an error of one statement leaves nothing of it.
	Begin, Commit, Rollback string
	// Reset undoes what a file may have set in its session, but for the lock.
	Reset []string
	// Renews reports that nothing undoes it: each file gets a session of its own, and the lock is another session's.
	Renews bool
}
