package sqlite_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
)

// setup opens an empty database that is ready for jobs, and runs statements in it.
func setup(t testing.TB, opts db.Options, statements ...string) db.Database {
	t.Helper()
	d, err := sqlite.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Probe(t.Context()))
	if len(statements) > 0 {
		_, err = transact(t.Context(), d, nil, statements...)
		require.NoError(t, err)
	}
	return d
}

func transact(ctx context.Context, d db.Database, seal db.BeforeCommit, statements ...string) ([]db.ResultSet, error) {
	tx := &db.Transaction{Expect: make([]*db.Range, len(statements))}
	for _, sql := range statements {
		tx.Statements = append(tx.Statements, &dialect.Compiled{SQL: sql})
	}
	return d.Transact(ctx, db.Call{Timeout: time.Minute}, tx, db.RowOptions{Format: db.Arrays}, seal)
}

func read(t testing.TB, d db.Database, sql string) db.ResultSet {
	t.Helper()
	set, err := d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Arrays})
	require.NoError(t, err, sql)
	return set
}

func rows(t testing.TB, d db.Database, sql string) string {
	t.Helper()
	return string(read(t, d, sql).Rows)
}

// sealed is a seal that returns a row for a job.
func sealed(jobID string) db.BeforeCommit {
	return func(context.Context, []db.ResultSet) (*db.Entry, error) { return entry(jobID), nil }
}

func entry(jobID string) *db.Entry {
	return &db.Entry{
		JobID: jobID, RequestHash: []byte("hash"), Status: "succeeded", Answer: []byte(`{}`),
		Sequence: 1, Timestamp: time.Unix(1, 0), Runner: "test",
	}
}

// openRaw opens the file by the stock driver, as another program does.
func openRaw(t testing.TB, path string) *sql.DB {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, raw.Close()) })
	return raw
}
