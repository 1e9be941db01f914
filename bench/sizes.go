package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

// measureSizes reads what a job leaves behind: in the results stream and in the ledger, and what removing old rows of
// the ledger costs.
func (w *world) measureSizes(ctx context.Context, r *report) error {
	const jobs = 20_000
	r.Sizes = map[string]float64{}
	for _, k := range works()[:4] {
		mode := k.modes()[0]
		backlog := min(jobs, k.jobs)
		if _, err := w.drain(ctx, w.runner(mode), &k, backlog); err != nil {
			return err
		}
		stream, err := w.js.Stream(ctx, "DBRUNNER_RESULTS_"+k.engine)
		if err != nil {
			return err
		}
		state := stream.CachedInfo().State
		r.Sizes["result_bytes_"+k.name] = figures.Round(float64(state.Bytes)/float64(state.Msgs), 1)
		if k.kind == "transaction" {
			if err := w.ledgerSize(ctx, r); err != nil {
				return err
			}
		}
	}
	progress("sizes %v", r.Sizes)
	return nil
}

func (w *world) ledgerSize(ctx context.Context, r *report) (err error) {
	conn, err := pgx.Connect(ctx, w.databaseURL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var bytes, rows float64
	err = conn.QueryRow(ctx, `SELECT pg_total_relation_size('dbrunner.ledger')::float8, count(*)::float8 FROM dbrunner.ledger`).
		Scan(&bytes, &rows)
	if err != nil {
		return err
	}
	r.Sizes["ledger_bytes_per_row"] = figures.Round(bytes/rows, 1)
	begin, before := time.Now(), process.CPUOf(w.postgres.PID(), true)
	if _, err := conn.Exec(ctx, `DELETE FROM dbrunner.ledger`); err != nil {
		return err
	}
	r.Sizes["ledger_delete_us_per_row"] = figures.Round(float64(time.Since(begin).Microseconds())/rows, 10)
	if _, err := conn.Exec(ctx, `VACUUM dbrunner.ledger`); err != nil {
		return err
	}
	r.Sizes["ledger_delete_and_vacuum_cpu_us_per_row"] = figures.Round(float64((process.CPUOf(w.postgres.PID(), true)-before).Microseconds())/rows, 10)
	return nil
}
