package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const effectsOf = `SELECT (SELECT count(*) FROM effects), (SELECT count(DISTINCT job) FROM effects),
	(SELECT sum(balance) FROM accounts)`

// checkEffects reads what a backlog of transactions left: one row a job, and the sum of all updates.
func (w *world) checkEffects(ctx context.Context, k *work, jobs int) error {
	var rows, distinct, sum int
	var err error
	switch k.engine {
	case "sqlite":
		err = sqlEffects(ctx, "sqlite", "file:"+w.sqlite, &rows, &distinct, &sum)
	case sqlserver:
		err = sqlEffects(ctx, sqlServerDriver, w.mssql, &rows, &distinct, &sum)
	default:
		err = w.postgresEffects(ctx, &rows, &distinct, &sum)
	}
	if err == nil && (rows != jobs || distinct != jobs || sum != 3*jobs) {
		err = fmt.Errorf("work %s: %d jobs left %d rows of %d jobs, and %d where %d is right",
			k.name, jobs, rows, distinct, sum, 3*jobs)
	}
	return err
}

func (w *world) postgresEffects(ctx context.Context, into ...any) error {
	conn, err := pgx.Connect(ctx, w.databaseURL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.QueryRow(ctx, effectsOf).Scan(into...)
}

func sqlEffects(ctx context.Context, driver, target string, into ...any) error {
	db, err := sql.Open(driver, target)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return db.QueryRowContext(ctx, effectsOf).Scan(into...)
}
