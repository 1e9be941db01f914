package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

const (
	// cancelGrace is how long the server has to end a statement after a cancel request; then the link is cut.
	cancelGrace = 10 * time.Second
	// versionLock bounds the wait of golang-migrate's driver for the lock of migrations, which it takes for a moment.
	versionLock = 2 * time.Second
	// versionTimeout bounds a statement of golang-migrate's driver.
	versionTimeout = 15 * time.Second
)

// migrations is PostgreSQL for package migration.
type migrations struct {
	opts     db.Options
	settings settings
	config   *pgx.ConnConfig
	dialect  *dialect.Dialect

	noCheckInterval atomic.Bool // the server does not know the parameter
}

// Migrations returns the engine for migrations. It connects to nothing.
func Migrations(opts db.Options) (migration.Engine, error) {
	own, err := parseSettings(opts.Settings)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", opts.Name, err)
	}
	pool, err := poolConfig(&opts)
	if err != nil {
		return nil, fmt.Errorf("migrations of %s: %w", opts.Name, err)
	}
	config := pool.ConnConfig
	// Files go as they are, without arguments. The driver pastes arguments into a text only where it knows how the server
	// will read it, so that ours go beside it.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.Tracer = encodingKeeper{}
	config.BuildFrontend = buildFrontend
	config.RuntimeParams = map[string]string{
		"application_name":                    applicationName(opts.Runner + "/migration"),
		"client_encoding":                     "UTF8",
		"statement_timeout":                   "0", // the action's own time limit ends it
		"lock_timeout":                        lockTimeout(&opts.Limits),
		"idle_in_transaction_session_timeout": milliseconds(max(opts.Limits.IdleInTransaction, time.Minute)),
		checkInterval:                         milliseconds(checkIntervalTime),
	}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
	m := &migrations{opts: opts, settings: own, config: config, dialect: Dialect()}
	m.opts.ConnectionString = ""
	return m, nil
}

// encodingKeeper sets client_encoding back before anything is sent: files are UTF-8, whatever one of them sets.
type encodingKeeper struct{}

// TraceQueryStart is called before a text is sent.
func (encodingKeeper) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	pg := conn.PgConn()
	if at := pg.ParameterStatus("client_encoding"); at != "" && at != "UTF8" && pg.TxStatus() != 'E' {
		_, _ = pg.Exec(ctx, "SET client_encoding = 'UTF8'").ReadAll() // a lost link shows in what follows
	}
	return ctx
}

// TraceQueryEnd is called behind it.
func (encodingKeeper) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// lockTimeout is how long a statement of a file that runs in a transaction waits for a lock; 0: indefinitely.
func lockTimeout(l *db.Limits) string {
	if l.LockTimeout <= 0 {
		return "0"
	}
	return milliseconds(l.LockTimeout)
}

// Dialect reports how files are read.
func (m *migrations) Dialect() *dialect.Dialect { return m.dialect }

// Open returns sessions for migrations.
func (m *migrations) Open(looking bool) (*sql.DB, error) {
	config := m.config.Copy()
	if looking {
		config.RuntimeParams["default_transaction_read_only"] = "on"
		config.RuntimeParams["application_name"] = applicationName(m.opts.Runner)
	}
	return sql.OpenDB(m.connector(config)), nil
}

// connector leaves out the parameter that old servers do not know.
func (m *migrations) connector(config *pgx.ConnConfig) driver.Connector {
	return &connector{m: m, inner: stdlib.GetConnector(*config, stdlib.OptionBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		renew(cc, &m.opts)
		if m.noCheckInterval.Load() {
			delete(cc.RuntimeParams, checkInterval)
		}
		return nil
	}))}
}

type connector struct {
	m     *migrations
	inner driver.Connector
}

// Connect makes a connection.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.inner.Connect(ctx)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && strings.Contains(e.Message, checkInterval) && !c.m.noCheckInterval.Swap(true) {
		return c.inner.Connect(ctx)
	}
	return conn, err
}

// Driver returns the driver.
func (c *connector) Driver() driver.Driver { return c.inner.Driver() }

// The history's table, and its texts. See migration.SQL for the arguments.
const (
	hasVersions = `SELECT (to_regclass(quote_ident(current_schema()) || '.schema_migrations') IS NOT NULL)::int`
	readVersion = `SELECT version, dirty FROM schema_migrations LIMIT 1`
	hasHistory  = `SELECT (to_regclass('dbrunner.migrations') IS NOT NULL)::int`

	createHistory = `CREATE TABLE IF NOT EXISTS dbrunner.migrations (
    id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    version     bigint      NOT NULL, -- as schema_migrations has it
    label       text        NOT NULL, -- the version as it is written
    file        text        NOT NULL,
    direction   text        NOT NULL, -- up, down, adopt, forget
    sha256      text        NOT NULL, -- of the file's text, hexadecimal
    mode        text        NOT NULL, -- transaction, statements
    state       text        NOT NULL, -- running, done, failed
    statements  integer     NOT NULL, -- that the file has
    statement   integer     NOT NULL, -- the last one that was begun
    runner      text        NOT NULL,
    job_id      text        NOT NULL,
    message_id  text        NOT NULL, -- of the job's message: an id may be used again
    duration_ms bigint      NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
)`
	selectHistory = `SELECT id, version, label, file, direction, sha256, mode, state, statements, statement, runner, job_id, message_id,
	to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
	to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), duration_ms
	FROM dbrunner.migrations ORDER BY id`
	noteMigration = `INSERT INTO dbrunner.migrations
	(version, label, file, direction, sha256, mode, state, statements, statement, runner, job_id, message_id, duration_ms)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id`
	markMigration = `UPDATE dbrunner.migrations SET state = $1, mode = $2, statement = $3, duration_ms = $4,
	finished_at = CASE WHEN $1 <> 'running' THEN clock_timestamp() END WHERE id = $5`
)

// SQL returns the texts.
func (m *migrations) SQL() *migration.SQL {
	return &migration.SQL{
		HasVersion: hasVersions, Version: readVersion, HasHistory: hasHistory,
		// IF NOT EXISTS wants the right to create schemas even where one exists.
		CreateHistory: []string{
			ddlLock,
			`DO $$ BEGIN IF to_regnamespace('dbrunner') IS NULL THEN CREATE SCHEMA dbrunner; END IF; END $$`,
			createHistory,
		},
		History: selectHistory, Note: noteMigration, Mark: markMigration,
		Begin: `BEGIN`, Commit: `COMMIT`, Rollback: `ROLLBACK`,
		Reset: []string{`SET SESSION AUTHORIZATION DEFAULT`, `RESET ALL`, `DISCARD TEMP`},
	}
}

// lockKeys are the keys of golang-migrate's own advisory lock, which keeps its users out as well. It makes the key of the
// database's name, and where it was opened with a URL, as its command line is, takes the slash before it for a part.
func lockKeys(ctx context.Context, session *sql.Conn) (keys [2]string, err error) {
	var name string
	var schema sql.NullString
	if err := session.QueryRowContext(ctx, `SELECT current_database(), current_schema()`).Scan(&name, &schema); err != nil {
		return keys, err
	}
	if !schema.Valid {
		return keys, db.Errorf(db.ClassPermanent, contract.CodeUndefined, "no schema of the login's search_path exists: create one, or set search_path")
	}
	for i, written := range []string{name, "/" + name} {
		if keys[i], err = database.GenerateAdvisoryLockId(written, schema.String, pgxmigrate.DefaultMigrationsTable); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// TryLock takes both of golang-migrate's advisory locks, or none.
func (m *migrations) TryLock(ctx context.Context, session *sql.Conn) (bool, error) {
	keys, err := lockKeys(ctx, session)
	if err != nil {
		return false, err
	}
	var second sql.NullBool // NULL: the first one was not free
	err = session.QueryRowContext(ctx, `SELECT CASE WHEN pg_try_advisory_lock($1::bigint) THEN pg_try_advisory_lock($2::bigint) END`,
		keys[0], keys[1]).Scan(&second)
	if err == nil && second.Valid && !second.Bool {
		_, err = session.ExecContext(ctx, `SELECT pg_advisory_unlock($1::bigint)`, keys[0])
	}
	return second.Bool, err
}

// Holder reports which session has the lock.
func (m *migrations) Holder(ctx context.Context, session *sql.Conn) (string, error) {
	keys, err := lockKeys(ctx, session)
	if err != nil {
		return "", err
	}
	var who string
	err = session.QueryRowContext(ctx, `SELECT format('session %s%s%s', l.pid,
		' of ' || a.usename, ', ' || nullif(left(regexp_replace(a.application_name, '[^A-Za-z0-9_./ -]', '?', 'g'), 64), ''))
	FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
	WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid IN ($1::bigint::oid, $2::bigint::oid) AND l.objsubid = 1 AND l.granted
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
		AND l.pid <> pg_backend_pid() LIMIT 1`, keys[0], keys[1]).Scan(&who)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return who, err
}

// Prepare sets how long the file's statements wait for locks: statements that work CONCURRENTLY wait for transactions
// of others by locks as well, which must take as long as it takes.
func (m *migrations) Prepare(ctx context.Context, session *sql.Conn, file *migration.File) error {
	if !file.Stepwise {
		return nil
	}
	_, err := session.ExecContext(ctx, `SET lock_timeout = 0`)
	return err
}

// AfterBegin has nothing to look at.
func (m *migrations) AfterBegin(context.Context, *sql.Conn, *migration.File) (func(context.Context) error, error) {
	return nil, nil
}

// Verify gives up the role that the file has set, which may not write the history, and has COMMIT wait as the server
// says. A file of PostgreSQL cannot end its transaction.
func (m *migrations) Verify(ctx context.Context, session *sql.Conn, _ *migration.File) error {
	_, err := session.ExecContext(ctx, `SET SESSION AUTHORIZATION DEFAULT; RESET synchronous_commit`)
	return err
}

// versions is golang-migrate's driver on a connection of its own.
type versions struct {
	driver database.Driver
	link   *link
}

// Versions opens the driver. Its waits are bounded by the session, and by cutting the connection.
func (m *migrations) Versions(ctx context.Context) (migration.Versions, error) {
	link := &link{}
	config := m.config.Copy()
	config.RuntimeParams["lock_timeout"] = milliseconds(versionLock)
	config.RuntimeParams["statement_timeout"] = milliseconds(versionTimeout)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		return link.add(dial(ctx, network, address))
	}
	defer context.AfterFunc(ctx, link.close)()
	sessions := sql.OpenDB(m.connector(config))
	made, err := pgxmigrate.WithInstance(sessions, &pgxmigrate.Config{})
	if err != nil {
		link.close()
		return nil, errors.Join(err, sessions.Close())
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

// link is what a driver has dialled, to be cut when no call waits for it any more.
type link struct {
	mu    sync.Mutex
	conns []net.Conn
	cut   bool
}

func (l *link) add(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// Explain makes an error one that can be shown.
func (m *migrations) Explain(err error, part *dialect.Part) *db.Error {
	// golang-migrate's errors do not unwrap, and hold the text of statements.
	if e, ok := errors.AsType[*database.Error](err); ok {
		err = e.OrigErr
	} else if e, ok := errors.AsType[database.Error](err); ok {
		err = e.OrigErr
	}
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own
	}
	if connecting, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return unreachable(m.opts.Name, connecting)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if strings.Contains(pg.Message, noRows) {
			return db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "COPY … FROM STDIN: no client sends its rows; %s", dialect.InsteadOfCopy).Because(pg)
		}
		v := judge(pg)
		text := ""
		var cause error = pg
		if part != nil {
			text = part.SQL
			cause = migration.AtLine(pg, lineOf(text, pg.Position))
		}
		message := describe(pg, text)
		switch {
		case raised(pg) && m.settings.showMessages:
			message = pg.Message
		case pg.Code == "2D000":
			message += `: a routine that the file calls ends the transaction (COMMIT, ROLLBACK), and the file runs in one; write ` +
				`"-- dbrunner: no-transaction" at the head of a file of its own for it`
		case pg.Code == "25001":
			message += migration.StepwiseHint
		case pg.Code == "42501" && part == nil:
			message += "; migrations need a login that may create the schema dbrunner, and tables in it and in the login's own schema"
		}
		return &db.Error{Class: v.class, Code: v.code, Message: message, EngineCode: pg.Code, Statement: -1, Err: cause}
	}
	return driverError(err)
}

// lineOf is the line, from 0, of a character of a text, from 1.
func lineOf(text string, position int32) int {
	line := 0
	for _, r := range text {
		if position--; position < 1 {
			break
		}
		if r == '\n' {
			line++
		}
	}
	return line
}
