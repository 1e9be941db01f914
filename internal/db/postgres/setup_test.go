package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

const testTimeout = 30 * time.Second

// bench is a database with the engine on it and a connection beside the engine.
type bench struct {
	t     testing.TB
	db    db.Database
	opts  db.Options
	admin *pgx.Conn
}

// setup opens a new database; change sees the options first.
func setup(t testing.TB, change ...func(*db.Options)) *bench {
	t.Helper()
	opts := options(t)
	direct := opts.ConnectionString
	for _, c := range change {
		c(&opts)
	}
	b := &bench{t: t, opts: opts, admin: connect(t, direct)}
	b.sql("CREATE TABLE IF NOT EXISTS effect (id bigint PRIMARY KEY, note text)")
	b.db = b.open(opts)
	require.NoError(t, b.db.Probe(t.Context()))
	return b
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bench) open(opts db.Options) db.Database {
	b.t.Helper()
	d, err := postgres.Open(opts)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, d.Close()) })
	return d
}

// sql runs something beside the engine.
func (b *bench) sql(text string) {
	b.t.Helper()
	_, err := b.admin.Exec(b.t.Context(), text)
	require.NoError(b.t, err)
}

// look reads one number beside the engine.
func (b *bench) look(text string, args ...any) int {
	b.t.Helper()
	var n int
	require.NoError(b.t, b.admin.QueryRow(b.t.Context(), text, args...).Scan(&n))
	return n
}

func (b *bench) effects() int { b.t.Helper(); return b.look("SELECT count(*) FROM effect") }

// ownAdvisoryLocks selects the advisory locks of the current database: other tests hold their own on the same server.
const ownAdvisoryLocks = "FROM pg_locks WHERE locktype = 'advisory' " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// advisoryLocks counts the advisory locks that sessions of this test's database hold.
func (b *bench) advisoryLocks() int {
	b.t.Helper()
	return b.look("SELECT count(*) " + ownAdvisoryLocks)
}

// sessions counts the engine's sessions in the server.
func (b *bench) sessions(where string) int {
	b.t.Helper()
	return b.look("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() " +
		"AND application_name LIKE 'dbrunner%' AND " + where)
}

func (b *bench) read(sql string) (db.ResultSet, error) {
	return b.db.Read(b.t.Context(), call(), &dialect.Compiled{SQL: sql}, objects())
}

func (b *bench) transact(seal db.BeforeCommit, sql ...string) ([]db.ResultSet, error) {
	return b.db.Transact(b.t.Context(), call(), transaction(sql...), objects(), seal)
}

func transaction(sql ...string) *db.Transaction {
	tx := &db.Transaction{Expect: make([]*db.Range, len(sql))}
	for _, s := range sql {
		tx.Statements = append(tx.Statements, &dialect.Compiled{SQL: s})
	}
	return tx
}

func call() db.Call { return db.Call{Label: "job-1", Timeout: testTimeout} }

func objects() db.RowOptions { return db.RowOptions{Format: db.Objects} }

func sealed(job string) db.BeforeCommit {
	return func(context.Context, []db.ResultSet) (*db.Entry, error) { return entry(job), nil }
}

func entry(job string) *db.Entry {
	return &db.Entry{
		JobID: job, RequestHash: []byte("12345678901234567890123456789012"), Status: "succeeded", Answer: []byte(`{"job":"` + job + `"}`),
		Sequence: 7, Timestamp: time.Unix(1700000000, 123456789).UTC(), Runner: "runner-1",
	}
}

// requireError wants an error of that class and code.
func requireError(t testing.TB, err error, class db.Class, code contract.Code) *db.Error {
	t.Helper()
	e, ok := err.(*db.Error) //nolint:errorlint // the engine returns it unwrapped
	require.True(t, ok, "%T: %v", err, err)
	require.Equal(t, class, e.Class, "class of: %v", err)
	require.Equal(t, code, e.Code, "code of: %v", err)
	return e
}

func eventually(t testing.TB, holds func() bool, what string) {
	t.Helper()
	require.Eventually(t, holds, testTimeout, 10*time.Millisecond, what)
}
