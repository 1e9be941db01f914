package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // its driver for database/sql

	"dbrunner/internal/db/dbtest"
)

// postgresSettings are a server's own defaults, which the helper that starts servers for tests turns off, and the
// memory that a server of this size has.
var postgresSettings = []string{
	"fsync=on", "full_page_writes=on", "synchronous_commit=on", "shared_buffers=128MB", "autovacuum_naptime=1min",
	"max_wal_size=4GB",
}

// tables of both engines, empty.
var tables = []string{
	`CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount INTEGER NOT NULL)`,
	`CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)`,
	`CREATE TABLE effects (job INTEGER NOT NULL, account INTEGER NOT NULL)`,
}

const sqliteSeries = `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) `

func startPostgres(ctx context.Context) (*dbtest.PostgresServer, error) {
	server, err := dbtest.LaunchPostgres(postgresSettings...) //nolint:contextcheck // it bounds its own start
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	statements := append([]string{}, tables...)
	statements = append(statements,
		`CREATE TABLE facts (id int, name text, score float8, at timestamptz, flag bool)`,
		fmt.Sprintf(`INSERT INTO items SELECT i, 'item ' || i, i %% 1000 FROM generate_series(1, %d) i`, items),
		fmt.Sprintf(`INSERT INTO accounts SELECT i, 0 FROM generate_series(1, %d) i`, items),
		fmt.Sprintf(`INSERT INTO facts SELECT i, 'fact ' || i, i + 0.25, timestamptz '2026-01-01 00:00:00+00' +
			i * interval '1 minute', i %% 2 = 0 FROM generate_series(1, %d) i`, facts),
		`VACUUM ANALYZE`,
	)
	if err := execPostgres(ctx, server.URL("postgres"), statements...); err != nil {
		server.Close()
		return nil, err
	}
	return server, nil
}

func execPostgres(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}

// createSQLite makes a file with the tables in a folder.
func createSQLite(ctx context.Context, dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	statements := append([]string{`PRAGMA journal_mode=WAL`, `PRAGMA synchronous=OFF`}, tables...)
	statements = append(statements,
		fmt.Sprintf(sqliteSeries, items)+`INSERT INTO items SELECT i, 'item ' || i, i % 1000 FROM s`,
		fmt.Sprintf(sqliteSeries, items)+`INSERT INTO accounts SELECT i, 0 FROM s`)
	return path, execSQLite(ctx, path, statements...)
}

func execSQLite(ctx context.Context, path string, statements ...string) error {
	return execSQL(ctx, "sqlite", "file:"+path, statements...)
}

// execSQL runs statements on one connection of a driver of database/sql.
func execSQL(ctx context.Context, driver, target string, statements ...string) error {
	db, err := sql.Open(driver, target)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { _ = db.Close() }()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}
