package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/golang-migrate/migrate/v4/database"
	sqlitemigrate "github.com/golang-migrate/migrate/v4/database/sqlite"
	"modernc.org/libc"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/migration"
)

// lockSuffix names the file whose lock is that of migrations. It stays when the lock is given back.
const lockSuffix = "-migration"

// migrations is SQLite for package migration.
type migrations struct {
	opts     db.Options
	settings settings
	dialect  *dialect.Dialect
}

// Migrations returns the engine for migrations. It does not touch the file.
func Migrations(opts db.Options) (migration.Engine, error) {
	s, err := parseOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", opts.Name, err)
	}
	return &migrations{opts: opts, settings: s, dialect: Dialect()}, nil
}

// Dialect reports how files are read.
func (m *migrations) Dialect() *dialect.Dialect { return m.dialect }

// Open returns sessions for migrations.
func (m *migrations) Open(looking bool) (*sql.DB, error) {
	mode := "rw"
	switch {
	case looking:
		mode = "ro"
	case m.settings.create:
		mode = "rwc"
	}
	return sql.Open("sqlite", m.source(m.settings.path, mode, m.settings.lockTimeout.Milliseconds()))
}

// source is a data source of the driver. Keys of other tables are looked at as they are for jobs.
func (m *migrations) source(path, mode string, busy int64) string {
	q := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(" + strconv.FormatInt(busy, 10) + ")", "foreign_keys(1)", "synchronous(" + m.settings.synchronous + ")",
	}}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

// historyTable is the table of the history.
const historyTable = "dbrunner_migrations"

// The history's table, and its texts. See migration.SQL for the arguments.
const (
	hasTable      = `SELECT count(*) FROM main.sqlite_master WHERE type = 'table' AND name = `
	createHistory = `CREATE TABLE IF NOT EXISTS main.dbrunner_migrations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    version     INTEGER NOT NULL, -- as schema_migrations has it
    label       TEXT    NOT NULL, -- the version as it is written
    file        TEXT    NOT NULL,
    direction   TEXT    NOT NULL, -- up, down, adopt, forget
    sha256      TEXT    NOT NULL, -- of the file's text, hexadecimal
    mode        TEXT    NOT NULL, -- transaction, statements
    state       TEXT    NOT NULL, -- running, done, failed
    statements  INTEGER NOT NULL, -- that the file has
    statement   INTEGER NOT NULL, -- the last one that was begun
    runner      TEXT    NOT NULL,
    job_id      TEXT    NOT NULL,
    message_id  TEXT    NOT NULL, -- of the job's message: an id may be used again
    duration_ms INTEGER NOT NULL,
    started_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    finished_at TEXT
)`
	selectHistory = `SELECT id, version, label, file, direction, sha256, mode, state, statements, statement, runner, job_id, message_id,
	started_at, finished_at, duration_ms FROM main.dbrunner_migrations ORDER BY id`
	noteMigration = `INSERT INTO main.dbrunner_migrations
	(version, label, file, direction, sha256, mode, state, statements, statement, runner, job_id, message_id, duration_ms)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) RETURNING id`
	markMigration = `UPDATE main.dbrunner_migrations SET state = ?1, mode = ?2, statement = ?3, duration_ms = ?4,
	finished_at = CASE WHEN ?1 <> 'running' THEN strftime('%Y-%m-%dT%H:%M:%fZ', 'now') END WHERE id = ?5`
)

// SQL returns the texts.
func (m *migrations) SQL() *migration.SQL {
	return &migration.SQL{
		HasVersion: hasTable + `'schema_migrations'`, Version: `SELECT version, dirty FROM main.schema_migrations LIMIT 1`,
		HasHistory: hasTable + `'` + historyTable + `'`, CreateHistory: []string{createHistory},
		History: selectHistory, Note: noteMigration, Mark: markMigration,
		Begin: `BEGIN IMMEDIATE`, Commit: `COMMIT`, Rollback: `ROLLBACK`, Renews: true,
	}
}

func (m *migrations) lockFile() string { return m.settings.path + lockSuffix }

// TryLock takes an exclusive lock on a file beside the database's, in the session: attached to it in SQLite's
// exclusive locking mode, which keeps the lock until the session ends, however its process does. Who does not get it
// lets the file go, as a reader's lock would be kept in that mode as well.
func (m *migrations) TryLock(ctx context.Context, session *sql.Conn) (ok bool, err error) {
	attached, err := isAttached(ctx, session, "dbrunner_lock")
	if err != nil || attached {
		return err == nil, err
	}
	defer func() {
		_, waiting := session.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout = %d`, m.settings.lockTimeout.Milliseconds()))
		err = errors.Join(err, waiting)
	}()
	_, err = session.ExecContext(ctx, `PRAGMA busy_timeout = 0; ATTACH ?1 AS dbrunner_lock`, m.lockFile())
	if err == nil {
		_, err = session.ExecContext(ctx, `PRAGMA dbrunner_lock.locking_mode = EXCLUSIVE; PRAGMA dbrunner_lock.user_version = 1`)
	}
	if err == nil {
		return true, nil
	}
	_, _ = session.ExecContext(ctx, `DETACH dbrunner_lock`) // it may not be attached
	if f := faultOf(err); f != nil && isBusy(f) {
		return false, nil
	}
	return false, err
}

// isAttached reports whether a session has a database of this name. A PRAGMA is asked, and not the table that is
// called like one: a table of the user's may have that name.
func isAttached(ctx context.Context, session *sql.Conn, name string) (found bool, err error) {
	rows, err := session.QueryContext(ctx, `PRAGMA database_list`)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var number int
		var schema, file string
		if err := rows.Scan(&number, &schema, &file); err != nil {
			return false, err
		}
		found = found || schema == name
	}
	return found, rows.Err()
}

// Holder finds out whether some session has the lock: SQLite does not report which.
func (m *migrations) Holder(ctx context.Context, _ *sql.Conn) (_ string, err error) {
	if _, err := os.Stat(m.lockFile()); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	look, err := sql.Open("sqlite", m.source(m.lockFile(), "ro", 0))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	version := 0
	err = look.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version)
	if f := faultOf(err); f != nil && isBusy(f) {
		return "another session, here or in another process", nil
	}
	return "", err
}

// versions is golang-migrate's driver with a connection of its own.
type versions struct{ driver database.Driver }

// Versions opens the driver. Its waits are bounded by the busy timeout.
func (m *migrations) Versions(context.Context) (migration.Versions, error) {
	sessions, err := m.Open(false)
	if err != nil {
		return nil, err
	}
	sessions.SetMaxOpenConns(1)
	made, err := sqlitemigrate.WithInstance(sessions, &sqlitemigrate.Config{})
	if err != nil {
		return nil, errors.Join(err, sessions.Close())
	}
	return &versions{driver: made}, nil
}

// Set sets the version.
func (v *versions) Set(_ context.Context, number int64, dirty bool) error {
	return v.driver.SetVersion(int(number), dirty)
}

// Close closes the connection.
func (v *versions) Close() error { return v.driver.Close() }

// faultOf finds SQLite's error in one of the driver for database/sql, nil if there is none.
func faultOf(err error) *fault {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return &fault{code: int32(e.Code()), text: plainText(e)}
	}
	return nil
}

// plainText is SQLite's own text, without what the driver adds: the text of the code before it, its number behind it.
func plainText(e *driver.Error) string {
	tls := libc.NewTLS()
	defer tls.Close()
	text, _, _ := strings.Cut(e.Error(), fmt.Sprintf(" (%d)", e.Code()))
	return strings.TrimPrefix(text, libc.GoString(sqlite3.Xsqlite3_errstr(tls, int32(e.Code())))+": ")
}

// Explain makes an error one that can be shown.
func (m *migrations) Explain(err error, part *dialect.Part) *db.Error {
	if e, ok := errors.AsType[*database.Error](err); ok {
		err = e.OrigErr
	}
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own
	}
	f := faultOf(err)
	if f == nil {
		return engine.DriverError(err)
	}
	if f.primary() == sqlite3.SQLITE_CANTOPEN {
		if _, err := os.Stat(m.settings.path); errors.Is(err, fs.ErrNotExist) {
			return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "there is no database file yet").Because(f)
		}
		return classify(f, opening)
	}
	if part == nil {
		return classify(f, opening)
	}
	e := classify(f, compiling) // a file has no parameters whose values a text could quote
	if e.Code == contract.CodeSyntax && !nearWord.MatchString(e.Message) {
		e.Message = "syntax error"
	}
	return e
}

// nearWord is SQLite's text for a syntax error at a keyword or a name, and nothing else of the file.
var nearWord = regexp.MustCompile(`^near "[A-Za-z_][A-Za-z0-9_]*": syntax error$`)
