package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	_ "modernc.org/sqlite" // its driver for database/sql
)

func (r *round) sqlitePath() string { return filepath.Join(r.dir, "edge.db") }

func (r *round) openSQLite() (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+r.sqlitePath()+"?_pragma=busy_timeout(20000)")
}

func (r *round) createSQLite(ctx context.Context) error {
	db, err := r.openSQLite()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	fill := fmt.Sprintf(`WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) INSERT INTO accounts SELECT i, %d FROM s`,
		accounts, opening)
	for _, s := range append(append([]string{`PRAGMA journal_mode=WAL`}, tables...), feedTables[edge], fill) {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	return nil
}
