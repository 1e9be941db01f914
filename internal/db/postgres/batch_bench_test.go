package postgres_test

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

const benchRows = 100_000

// customers are rows of five columns.
type customers struct{ next int }

func (customers) Open(context.Context) (dialect.BatchRows, error) { return &customers{}, nil }
func (*customers) Close() error                                   { return nil }

func (c *customers) Next() ([]dialect.Value, error) {
	if c.next++; c.next > benchRows {
		return nil, io.EOF
	}
	id := strconv.Itoa(c.next)
	return []dialect.Value{
		{Kind: dialect.Number, Text: id},
		{Kind: dialect.String, Text: "customer " + id},
		{Kind: dialect.Number, Text: id + ".25"},
		{Kind: dialect.String, Text: "2026-01-01 00:00:00+00"},
		{Kind: dialect.Bool, Text: "true"},
	}, nil
}

// BenchmarkBatch inserts 100,000 rows in one transaction with its ledger row, beside the driver's own way to load them.
func BenchmarkBatch(b *testing.B) {
	url := dbtest.Postgres(b)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	const columns = "id int PRIMARY KEY, name text, amount float8, at timestamptz, ok bool"
	if _, err := conn.Exec(b.Context(), "CREATE TABLE customers ("+columns+")"); err != nil {
		b.Fatal(err)
	}
	empty := func() {
		b.StopTimer()
		if _, err := conn.Exec(context.Background(), "TRUNCATE customers"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.Run("CopyFrom", func(b *testing.B) {
		for b.Loop() {
			empty()
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			n, err := conn.CopyFrom(b.Context(), pgx.Identifier{"customers"}, []string{"id", "name", "amount", "at", "ok"},
				pgx.CopyFromSlice(benchRows, func(i int) ([]any, error) {
					return []any{i, "customer " + strconv.Itoa(i), float64(i) + 0.25, at, true}, nil
				}))
			if err != nil || n != benchRows {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(benchRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	o := options(b)
	o.ConnectionString = url
	d, err := postgres.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Probe(b.Context()); err != nil {
		b.Fatal(err)
	}
	for name, sql := range map[string]string{
		"Insert": "INSERT INTO customers (id, name, amount, at, ok) VALUES ($1, $2, $3, $4, $5)",
		"Upsert": "INSERT INTO customers (id, name, amount, at, ok) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
	} {
		b.Run(name, func(b *testing.B) {
			jobs := 0
			for b.Loop() {
				empty()
				jobs++
				tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: sql, Batch: customers{}}}, Expect: make([]*db.Range, 1)}
				sets, err := d.Transact(b.Context(), db.Call{Timeout: time.Minute}, tx, db.RowOptions{Format: db.Objects}, sealed(fmt.Sprint(name, b.N, jobs, time.Now().UnixNano())))
				if err != nil || sets[0].RowsAffected != benchRows {
					b.Fatal(err)
				}
			}
			b.ReportMetric(benchRows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
