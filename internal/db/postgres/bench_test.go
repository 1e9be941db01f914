package postgres_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

// Each engine benchmark has a hand-written loop beside it that does the bare work on the same number of
// connections: what is measured is the share of its speed.
const benchConns = 8

func benchDatabase(b *testing.B) (db.Database, *pgxpool.Pool) {
	b.Helper()
	opts := options(b)
	opts.Pool.Max, opts.Pool.Min = benchConns, benchConns
	d, err := postgres.Open(opts)
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })
	require.NoError(b, d.Probe(b.Context()))
	config, err := pgxpool.ParseConfig(opts.ConnectionString)
	require.NoError(b, err)
	config.MaxConns = benchConns
	raw, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(raw.Close)
	_, err = raw.Exec(b.Context(), "CREATE TABLE effect (id bigint PRIMARY KEY, note text)")
	require.NoError(b, err)
	return d, raw
}

func parallel(b *testing.B, work func(ctx context.Context, n int64) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(benchConns * 8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for pb.Next() {
			if err := work(ctx, n.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func BenchmarkRead(b *testing.B) {
	d, raw := benchDatabase(b)
	b.Run("engine", func(b *testing.B) {
		call := db.Call{Label: "job-1", Timeout: time.Minute}
		rows := db.RowOptions{Format: db.Objects, MaxRows: 1000, MaxBytes: 1 << 20}
		parallel(b, func(ctx context.Context, n int64) error {
			stmt := dialect.Compiled{SQL: "SELECT $1::int AS n", Args: []dialect.Value{{Kind: dialect.Number, Text: strconv.FormatInt(n, 10)}}}
			_, err := d.Read(ctx, call, &stmt, rows)
			return err
		})
	})
	b.Run("pgx", func(b *testing.B) {
		parallel(b, func(ctx context.Context, n int64) error {
			var got int64
			return raw.QueryRow(ctx, "SELECT $1::int AS n", n).Scan(&got)
		})
	})
	b.Run("pgx-readonly", func(b *testing.B) {
		parallel(b, func(ctx context.Context, n int64) error {
			return pgx.BeginTxFunc(ctx, raw, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				var got int64
				return tx.QueryRow(ctx, "SELECT $1::int AS n", n).Scan(&got)
			})
		})
	})
}

var effects atomic.Int64

func BenchmarkTransact(b *testing.B) {
	d, raw := benchDatabase(b)
	const insert = "INSERT INTO effect (id, note) VALUES ($1, $2)"
	b.Run("engine", func(b *testing.B) {
		call := db.Call{Label: "job-1", Timeout: time.Minute}
		rows := db.RowOptions{Format: db.Objects, MaxRows: 1000, MaxBytes: 1 << 20}
		parallel(b, func(ctx context.Context, _ int64) error {
			id := strconv.FormatInt(effects.Add(1), 10)
			tx := db.Transaction{
				Statements: []*dialect.Compiled{{SQL: insert, Args: []dialect.Value{{Kind: dialect.Number, Text: id}, {Kind: dialect.String, Text: "note"}}}},
				Expect:     []*db.Range{nil},
			}
			_, err := d.Transact(ctx, call, &tx, rows, func(context.Context, []db.ResultSet) (*db.Entry, error) {
				return &db.Entry{
					JobID: id, RequestHash: make([]byte, 32), Status: "succeeded", Answer: make([]byte, 500),
					Sequence: 1, Timestamp: time.Now(), Runner: "r",
				}, nil
			})
			return err
		})
	})
	b.Run("engine-unfenced", func(b *testing.B) {
		call := db.Call{Label: "job-1", Timeout: time.Minute}
		rows := db.RowOptions{Format: db.Objects, MaxRows: 1000, MaxBytes: 1 << 20}
		parallel(b, func(ctx context.Context, _ int64) error {
			id := strconv.FormatInt(effects.Add(1), 10)
			tx := db.Transaction{
				Statements: []*dialect.Compiled{{SQL: insert, Args: []dialect.Value{{Kind: dialect.Number, Text: id}, {Kind: dialect.String, Text: "note"}}}},
				Expect:     []*db.Range{nil},
			}
			_, err := d.Transact(ctx, call, &tx, rows, nil)
			return err
		})
	})
	b.Run("pgx-autocommit", func(b *testing.B) {
		parallel(b, func(ctx context.Context, _ int64) error {
			_, err := raw.Exec(ctx, insert, effects.Add(1), "note")
			return err
		})
	})
	b.Run("pgx-begin-commit", func(b *testing.B) {
		parallel(b, func(ctx context.Context, _ int64) error {
			return pgx.BeginFunc(ctx, raw, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, insert, effects.Add(1), "note")
				return err
			})
		})
	})
}

func BenchmarkRows(b *testing.B) {
	d, raw := benchDatabase(b)
	const sql = "SELECT n AS id, 'name ' || n AS name, n * 1.5::float8 AS amount, now() AS at FROM generate_series(1, 10000) n"
	b.Run("engine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := d.Read(b.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Objects})
			require.NoError(b, err)
		}
	})
	b.Run("pgx-scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rows, err := raw.Query(b.Context(), sql)
			require.NoError(b, err)
			var (
				id     int64
				name   string
				amount float64
				at     time.Time
			)
			_, err = pgx.ForEachRow(rows, []any{&id, &name, &amount, &at}, func() error { return nil })
			require.NoError(b, err)
		}
	})
}
