package sqlserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	sqlservermigrate "github.com/golang-migrate/migrate/v4/database/sqlserver"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

// migrations is SQL Server for package migration.
type migrations struct {
	opts       db.Options
	settings   settings
	connectors *connectors
	database   string // that the connection string names
	dialect    *dialect.Dialect
	session    atomic.Pointer[sockets] // of the session made last
	version    atomic.Pointer[sockets] // of the driver of versions made last
}

// Migrations returns the engine for migrations. It connects to nothing.
func Migrations(opts db.Options) (migration.Engine, error) {
	own, err := parseSettings(opts.Settings)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", opts.Name, err)
	}
	opts.Runner += "/migration"
	connectors, err := newConnectors(&opts, own)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", opts.Name, err)
	}
	given, err := msdsn.Parse(opts.ConnectionString)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: the connection string cannot be read: %s", opts.Name, connectionForm)
	}
	opts.ConnectionString = ""
	return &migrations{opts: opts, settings: own, connectors: connectors, database: given.Database, dialect: Dialect()}, nil
}

// Dialect reports how files are read.
func (m *migrations) Dialect() *dialect.Dialect { return m.dialect }

// Open returns sessions for migrations.
func (m *migrations) Open(bool) (*sql.DB, error) {
	return sql.OpenDB(&connecting{func() *mssql.Connector {
		connector, link := m.connectors.now(), newSockets()
		connector.Dialer = link
		m.session.Store(link)
		return connector
	}}), nil
}

// connecting distinguishes an error of connecting from one of a connection.
type connecting struct{ now func() *mssql.Connector }

// Connect makes a connection.
func (c *connecting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := login(ctx, c.now())
	if err != nil {
		return nil, &connectFailure{err}
	}
	return conn, nil
}

// Driver returns the driver.
func (c *connecting) Driver() driver.Driver { return &mssql.Driver{} }

type connectFailure struct{ err error }

func (e *connectFailure) Error() string { return e.err.Error() }
func (e *connectFailure) Unwrap() error { return e.err }

// The history's table, and its texts. See migration.SQL for the arguments.
const (
	hasVersions   = `SELECT CASE WHEN OBJECT_ID(QUOTENAME(SCHEMA_NAME()) + N'.schema_migrations', N'U') IS NULL THEN 0 ELSE 1 END`
	readVersion   = `SELECT TOP (1) version, dirty FROM schema_migrations`
	hasHistory    = `SELECT CASE WHEN OBJECT_ID(N'dbrunner.migrations', N'U') IS NULL THEN 0 ELSE 1 END`
	createHistory = `IF OBJECT_ID(N'dbrunner.migrations', N'U') IS NULL
CREATE TABLE dbrunner.migrations (
    id          bigint IDENTITY(1, 1) NOT NULL CONSTRAINT migrations_key PRIMARY KEY,
    version     bigint        NOT NULL, -- as schema_migrations has it
    label       varchar(64)   NOT NULL, -- the version as it is written
    [file]      nvarchar(400) NOT NULL,
    direction   varchar(16)   NOT NULL, -- up, down, adopt, forget
    sha256      varchar(64)   NOT NULL, -- of the file's text, hexadecimal
    mode        varchar(16)   NOT NULL, -- transaction, statements
    state       varchar(16)   NOT NULL, -- running, done, failed
    statements  int           NOT NULL, -- that the file has
    statement   int           NOT NULL, -- the last one that was begun
    runner      varchar(128)  NOT NULL,
    job_id      varchar(128)  NOT NULL,
    message_id  varchar(128)  NOT NULL, -- of the job's message: an id may be used again
    duration_ms bigint        NOT NULL,
    started_at  datetime2(7)  NOT NULL CONSTRAINT migrations_started_now DEFAULT SYSUTCDATETIME(),
    finished_at datetime2(7)  NULL
)`
	selectHistory = `SELECT id, version, label, [file], direction, sha256, mode, state, statements, statement, runner, job_id, message_id,
	CONVERT(varchar(33), started_at, 126) + 'Z', CONVERT(varchar(33), finished_at, 126) + 'Z', duration_ms
	FROM dbrunner.migrations ORDER BY id`
	noteMigration = `INSERT INTO dbrunner.migrations
	(version, label, [file], direction, sha256, mode, state, statements, statement, runner, job_id, message_id, duration_ms)
	OUTPUT INSERTED.id VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9, @p10, @p11, @p12, @p13)`
	markMigration = `UPDATE dbrunner.migrations SET state = @p1, mode = @p2, statement = @p3, duration_ms = @p4,
	finished_at = CASE WHEN @p1 <> 'running' THEN SYSUTCDATETIME() END WHERE id = @p5`
	// sessionSettings are what a batch finds, whatever the one before has set.
	sessionSettings = `SET XACT_ABORT ON; SET QUOTED_IDENTIFIER ON; SET ANSI_NULLS ON; SET ANSI_PADDING ON; SET ANSI_WARNINGS ON;
	SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON; SET NUMERIC_ROUNDABORT OFF; SET NOCOUNT OFF; SET IMPLICIT_TRANSACTIONS OFF;
	SET ROWCOUNT 0; SET DEADLOCK_PRIORITY NORMAL; SET TRANSACTION ISOLATION LEVEL READ COMMITTED`
)

// SQL returns the texts.
func (m *migrations) SQL() *migration.SQL {
	return &migration.SQL{
		HasVersion: hasVersions, Version: readVersion, HasHistory: hasHistory,
		CreateHistory: []string{createSchema, createHistory},
		History:       selectHistory, Note: noteMigration, Mark: markMigration,
		Begin: `SET XACT_ABORT ON; BEGIN TRANSACTION`, Commit: `COMMIT TRANSACTION`, Rollback: `IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION`,
		Reset: []string{sessionSettings, `USE [` + strings.ReplaceAll(m.database, "]", "]]") + `]`},
	}
}

// lockKey is the resource of golang-migrate's own application lock, which keeps its users out as well.
func lockKey(ctx context.Context, session *sql.Conn) (string, error) {
	var name, schema sql.NullString
	if err := session.QueryRowContext(ctx, `SELECT DB_NAME(), SCHEMA_NAME()`).Scan(&name, &schema); err != nil {
		return "", err
	}
	return database.GenerateAdvisoryLockId(name.String, schema.String)
}

// TryLock takes the application lock of golang-migrate.
func (m *migrations) TryLock(ctx context.Context, session *sql.Conn) (bool, error) {
	key, err := lockKey(ctx, session)
	if err != nil {
		return false, err
	}
	result := 0
	err = session.QueryRowContext(ctx, `DECLARE @result int;
	EXEC @result = sp_getapplock @Resource = @p1, @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0;
	SELECT @result`, key).Scan(&result)
	// Below zero: -1 not free, -2 and -3 given up, -999 failed, which services that speak the protocol answer when two meet.
	return err == nil && result >= 0, err
}

// Holder reports whether some session has the lock, and which one where the login may see that (VIEW SERVER STATE).
func (m *migrations) Holder(ctx context.Context, session *sql.Conn) (string, error) {
	key, err := lockKey(ctx, session)
	if err != nil {
		return "", err
	}
	free := 0
	err = session.QueryRowContext(ctx, `SELECT APPLOCK_TEST('public', @p1, 'Exclusive', 'Session')`, key).Scan(&free)
	if err != nil || free == 1 {
		return "", err
	}
	var id int
	var program sql.NullString
	err = session.QueryRowContext(ctx, `SELECT TOP (1) l.request_session_id, s.program_name FROM sys.dm_tran_locks l
	LEFT JOIN sys.dm_exec_sessions s ON s.session_id = l.request_session_id
	WHERE l.resource_type = 'APPLICATION' AND l.request_status = 'GRANT' AND l.resource_database_id = DB_ID()
		AND l.resource_description LIKE '%[[]' + @p1 + ']%'`, key).Scan(&id, &program)
	if err != nil {
		return "another session", nil //nolint:nilerr // the login may not see which
	}
	return fmt.Sprintf("session %d, %s", id, plain(program.String)), nil
}

// plain keeps what a client calls itself to what can be shown.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
	return name[:min(len(name), 64)]
}

// Prepare makes the session what every file finds.
func (m *migrations) Prepare(ctx context.Context, session *sql.Conn, file *migration.File) error {
	wait := m.opts.Limits.LockTimeout
	text := "; SET LOCK_TIMEOUT -1"
	if wait > 0 && !file.Stepwise {
		text = "; SET LOCK_TIMEOUT " + strconv.FormatInt(max(wait, time.Millisecond).Milliseconds(), 10)
	}
	_, err := session.ExecContext(ctx, sessionSettings+text)
	return err
}

// AfterBegin has nothing to look at.
func (m *migrations) AfterBegin(context.Context, *sql.Conn, *migration.File) (func(context.Context) error, error) {
	return nil, nil
}

// Verify looks whether the session is where it was: a batch may end the transaction, make COMMIT impossible by hiding an error,
// and may go to another database.
func (m *migrations) Verify(ctx context.Context, session *sql.Conn, file *migration.File) error {
	var depth, state, home int
	err := session.QueryRowContext(ctx, `SELECT @@TRANCOUNT, XACT_STATE(), CASE WHEN DB_NAME() = @p1 THEN 1 ELSE 0 END`,
		m.database).Scan(&depth, &state, &home)
	want := 1
	if file.Stepwise {
		want = 0
	}
	switch {
	case err != nil:
		return err
	case depth < want:
		return db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted, "the file has ended the transaction that it ran in: what it did may "+
			"have stayed").Because(migration.ErrEnded)
	case depth > want, state < 0:
		return db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted, "the file has left a transaction open, or one that can only be rolled back")
	case home == 0:
		return db.Errorf(db.ClassPermanent, contract.CodeForbiddenStatement, "the file changed the database (USE) and did not change it back")
	}
	return nil
}

// versions is golang-migrate's driver on a connection of its own.
type versions struct {
	driver database.Driver
	link   *sockets
}

// versionLock bounds the wait of golang-migrate's driver for the lock of migrations, which it takes for a moment, and
// the rest of its opening.
const versionLock = 15 * time.Second

// Versions opens the driver. Its waits are bounded by cutting the connection.
func (m *migrations) Versions(caller context.Context) (migration.Versions, error) {
	ctx, cancel := context.WithTimeout(caller, versionLock)
	defer cancel()
	link := newSockets()
	m.version.Store(link)
	connector := m.connectors.now()
	connector.Dialer = link
	connector.SessionInitSQL = "SET LOCK_TIMEOUT 15000"
	defer context.AfterFunc(ctx, link.close)()
	sessions := sql.OpenDB(&connecting{func() *mssql.Connector { return connector }})
	made, err := sqlservermigrate.WithInstance(sessions, &sqlservermigrate.Config{})
	if err != nil {
		link.close()
		_ = sessions.Close()
		if ctx.Err() != nil && caller.Err() == nil {
			return nil, db.Errorf(db.ClassTransient, contract.CodeLockTimeout, "the lock of migrations was not free").Because(err)
		}
		return nil, err
	}
	return &versions{driver: made, link: link}, nil
}

// Set sets the version.
func (v *versions) Set(ctx context.Context, number int64, dirty bool) error {
	defer context.AfterFunc(ctx, v.link.close)()
	return v.driver.SetVersion(int(number), dirty)
}

// Close closes the connection.
func (v *versions) Close() error { return v.driver.Close() }

// Explain makes an error one that can be shown.
func (m *migrations) Explain(err error, part *dialect.Part) *db.Error {
	if e, ok := errors.AsType[*database.Error](err); ok {
		if e.OrigErr == nil { // golang-migrate's lock was refused
			return db.Errorf(db.ClassTransient, contract.CodeLockTimeout, "the lock of migrations was not free")
		}
		err = e.OrigErr
	}
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own
	}
	d := &Database{opts: m.opts, settings: m.settings}
	if _, connecting := errors.AsType[*connectFailure](err); connecting {
		return d.connectError(err)
	}
	server, is := errors.AsType[mssql.Error](err)
	if !is {
		return driverError(m.version.Load().judge(m.session.Load().judge(err)))
	}
	e := d.serverError(server, -1)
	switch {
	case part == nil:
	case server.LineNo > 0:
		e.Err = migration.AtLine(err, int(server.LineNo)-1)
		fallthrough
	default:
		if server.Number == 226 || server.Number == 574 {
			e.Message += migration.StepwiseHint
		}
	}
	return e
}
