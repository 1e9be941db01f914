package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the rival: database/sql with the driver

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
)

const benchAccounts = 1000

func benchDatabase(b *testing.B, synchronous string) db.Database {
	b.Helper()
	opts := options(b)
	opts.Settings = map[string]string{"synchronous": synchronous}
	d, err := sqlite.Open(opts)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	require.NoError(b, d.Probe(b.Context()))
	statements := []*dialect.Compiled{
		{SQL: "CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)"},
		{SQL: "CREATE TABLE movement (id INTEGER PRIMARY KEY, account_id INTEGER, amount INTEGER)"},
		{SQL: fmt.Sprintf("INSERT INTO account SELECT n, 'owner ' || n, 100 FROM (%s)", numbers(benchAccounts))},
	}
	_, err = d.Transact(b.Context(), db.Call{}, &db.Transaction{Statements: statements}, db.RowOptions{}, nil)
	require.NoError(b, err)
	return d
}

func benchRival(b *testing.B, synchronous string) *sql.DB {
	b.Helper()
	path := filepath.Join(b.TempDir(), "rival.db")
	d, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	for _, text := range []string{
		"CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)",
		"CREATE TABLE movement (id INTEGER PRIMARY KEY, account_id INTEGER, amount INTEGER)",
		fmt.Sprintf("INSERT INTO account SELECT n, 'owner ' || n, 100 FROM (%s)", numbers(benchAccounts)),
	} {
		_, err := d.Exec(text)
		require.NoError(b, err)
	}
	return d
}

func integer(n int) dialect.Value { return dialect.Value{Kind: dialect.Number, Text: strconv.Itoa(n)} }

const pointSQL = "SELECT id, owner, balance FROM account WHERE id = ?1"

func BenchmarkPointRead(b *testing.B) {
	b.Run("engine", func(b *testing.B) {
		d := benchDatabase(b, "full")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			stmt := &dialect.Compiled{SQL: pointSQL, Args: []dialect.Value{integer(i%benchAccounts + 1)}}
			_, err := d.Read(b.Context(), db.Call{Timeout: time.Minute}, stmt, db.RowOptions{Format: db.Objects})
			require.NoError(b, err)
		}
	})
	b.Run("database/sql", func(b *testing.B) {
		d := benchRival(b, "full")
		stmt, err := d.Prepare(pointSQL)
		require.NoError(b, err)
		defer stmt.Close()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			var id, balance int64
			var owner string
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			err := stmt.QueryRowContext(ctx, i%benchAccounts+1).Scan(&id, &owner, &balance)
			cancel()
			require.NoError(b, err)
		}
	})
}

func BenchmarkRows(b *testing.B) {
	const rows = 10_000
	b.Run("engine", func(b *testing.B) {
		d := benchDatabase(b, "full")
		stmt := &dialect.Compiled{SQL: "SELECT n, 'text ' || n AS t, n / 3.0 AS r FROM (" + numbers(rows) + ")"}
		b.ReportAllocs()
		for b.Loop() {
			set, err := d.Read(b.Context(), db.Call{Timeout: time.Minute}, stmt, db.RowOptions{Format: db.Objects})
			require.NoError(b, err)
			b.SetBytes(int64(len(set.Rows)))
		}
	})
	b.Run("database/sql", func(b *testing.B) {
		d := benchRival(b, "full")
		b.ReportAllocs()
		for b.Loop() {
			scanAll(b, d, "SELECT n, 'text ' || n AS t, n / 3.0 AS r FROM ("+numbers(rows)+")")
		}
	})
}

func scanAll(b *testing.B, d *sql.DB, text string) {
	set, err := d.Query(text)
	require.NoError(b, err)
	defer func() { require.NoError(b, set.Close()) }()
	for set.Next() {
		var n int64
		var t string
		var r float64
		require.NoError(b, set.Scan(&n, &t, &r))
	}
	require.NoError(b, set.Err())
}

// BenchmarkTransaction is a job of an update and an insert, with its ledger row; the rival inserts the same
// row by hand. With synchronous=normal no COMMIT waits for the disk, so what the engine itself takes shows.
func BenchmarkTransaction(b *testing.B) {
	for _, synchronous := range []string{"full", "normal"} {
		b.Run(synchronous+"/engine", func(b *testing.B) { benchTransact(b, benchDatabase(b, synchronous)) })
		b.Run(synchronous+"/database/sql", func(b *testing.B) { benchTransactRival(b, benchRival(b, synchronous)) })
	}
}

const (
	updateSQL = "UPDATE account SET balance = balance + ?1 WHERE id = ?2"
	insertSQL = "INSERT INTO movement (account_id, amount) VALUES (?1, ?2)"
)

func benchTransact(b *testing.B, d db.Database) {
	one := &db.Range{Min: 1, Max: 1}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := integer(i%benchAccounts + 1)
		tx := &db.Transaction{Statements: []*dialect.Compiled{
			{SQL: updateSQL, Args: []dialect.Value{integer(1), id}}, {SQL: insertSQL, Args: []dialect.Value{id, integer(1)}},
		}, Expect: []*db.Range{one, one}}
		seal := func(context.Context, []db.ResultSet) (*db.Entry, error) {
			return &db.Entry{
				JobID: "job-" + strconv.Itoa(i), RequestHash: make([]byte, 32), Status: "succeeded",
				Answer: make([]byte, 300), Sequence: uint64(i), Timestamp: time.Now(), Runner: "runner",
			}, nil
		}
		_, err := d.Transact(b.Context(), db.Call{Timeout: time.Minute}, tx, db.RowOptions{Format: db.Objects}, seal)
		require.NoError(b, err)
	}
}

func benchTransactRival(b *testing.B, d *sql.DB) {
	_, err := d.Exec(sqlite.DDL())
	require.NoError(b, err)
	conn, err := d.Conn(b.Context())
	require.NoError(b, err)
	defer func() { require.NoError(b, conn.Close()) }()
	prepare := func(text string) *sql.Stmt {
		s, err := conn.PrepareContext(b.Context(), text)
		require.NoError(b, err)
		b.Cleanup(func() { _ = s.Close() })
		return s
	}
	begin, commit := prepare("BEGIN IMMEDIATE"), prepare("COMMIT")
	update, insert := prepare(updateSQL), prepare(insertSQL)
	fence := prepare(`INSERT INTO dbrunner_ledger (namespace, database_name, job_id, request_hash, status, sequence,
		message_time, runner, recorded_at, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	exec := func(ctx context.Context, s *sql.Stmt, args ...any) {
		_, err := s.ExecContext(ctx, args...)
		require.NoError(b, err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		id := i%benchAccounts + 1
		exec(ctx, begin)
		exec(ctx, update, 1, id)
		exec(ctx, insert, id, 1)
		exec(ctx, fence, "dbrunner", "demo", "job-"+strconv.Itoa(i), make([]byte, 32),
			"succeeded", i, time.Now().UnixNano(), "runner", time.Now().UnixNano(), make([]byte, 300))
		exec(ctx, commit)
		cancel()
	}
}
