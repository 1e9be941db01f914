package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dbrunner/bench/process"
	"dbrunner/internal/db/dbtest"
)

// world is the servers and the databases.
type world struct {
	*servers
	opts     options
	dir      string
	postgres *dbtest.PostgresServer
	sqlite   string
	mssql    string // connection string; empty: no SQL Server is measured
	serial   int    // of backlogs: job ids are never used twice
}

func newWorld(ctx context.Context, o options) (w *world, err error) {
	w = &world{opts: o}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "dbrunner-bench-"); err != nil {
		return nil, err
	}
	if w.postgres, err = startPostgres(ctx); err != nil {
		return nil, err
	}
	if w.sqlite, err = createSQLite(ctx, w.dir, "bench.db"); err != nil {
		return nil, err
	}
	if w.mssql, err = createSQLServer(ctx); err != nil {
		return nil, err
	}
	args := []string{"-dir", filepath.Join(w.dir, "nats")}
	if o.profiles != "" {
		args = append(args, "-cpuprofile", filepath.Join(w.dir, "nats.pprof"))
	}
	started, err := process.One(process.StartRole("nats", args...))
	if err != nil {
		return nil, err
	}
	w.servers, err = serve(ctx, started)
	return w, err
}

func (w *world) close() {
	if w.servers != nil {
		w.leave()
	}
	if w.postgres != nil {
		w.postgres.Close()
	}
	if w.dir != "" {
		_ = os.RemoveAll(w.dir)
	}
}

// databaseURL is the PostgreSQL database of all works.
func (w *world) databaseURL() string { return w.postgres.URL("postgres") }

// target is what an engine's database is opened with.
func (w *world) target(engine string) string {
	switch engine {
	case "sqlite":
		return w.sqlite
	case sqlserver:
		return w.mssql
	}
	return w.databaseURL()
}

// runnerEnvironment configures a runner for some databases, each under its engine's name or its file's.
func (w *world) runnerEnvironment(databases map[string]string, more ...string) []string {
	limit := w.opts.limit()
	env := []string{
		"RUNNER_NATS_URLS=" + w.url, "RUNNER_LOG_LEVEL=warn", "TMPDIR=" + w.dir,
		fmt.Sprintf("RUNNER_TOPOLOGY_JOBS_MAX_MESSAGES=%d", limit), fmt.Sprintf("RUNNER_TOPOLOGY_JOBS_MAX_MESSAGES_PER_KIND=%d", limit),
		fmt.Sprintf("RUNNER_TOPOLOGY_RESULTS_MAX_COUNT=%d", limit),
		fmt.Sprintf("RUNNER_TOPOLOGY_JOBS_MAX_BYTES=%dKiB", 2*limit), fmt.Sprintf("RUNNER_TOPOLOGY_RESULTS_MAX_BYTES=%dKiB", 8*limit),
	}
	var names []string
	for name, target := range databases {
		names = append(names, name)
		engine, key := "postgres", strings.ToUpper(name)
		switch {
		case strings.HasPrefix(target, "sqlserver://"):
			engine = sqlserver // a server for tests has a certificate of its own making, or none
			env = append(env, key+"_SETTINGS=allow_unencrypted=true,allow_unverified_certificate=true")
		case !strings.Contains(target, "://"):
			engine = "sqlite"
		}
		if engine != sqlserver {
			env = append(env, key+"_SHARED_COMMITS=true") // of the jobs that say so
		}
		env = append(env, key+"_TYPE="+engine, key+"_CONNECTION_STRING="+target, fmt.Sprintf("%s_POOL_MAX=%d", key, connections))
	}
	return append(append(env, "RUNNER_DATABASES="+strings.Join(names, ",")), more...)
}

// startRunner starts the built runner for one engine's database, which has the engine's name.
func (w *world) startRunner(engine string) (*process.Process, error) {
	return process.Start(w.runnerEnvironment(map[string]string{engine: w.target(engine)}, w.opts.environment...), w.opts.runner, "serve")
}

func (w *world) startBare(engine string) (*process.Process, error) {
	args := []string{"-nats", w.url, "-stream", bareStream, "-engine", engine}
	if engine != "none" {
		args = append(args, "-database", w.target(engine))
	}
	return process.StartRole("bare", args...)
}

// prepareRunner runs a runner until the streams and the ledger of its database are there, which a first job shows.
func (w *world) prepareRunner(ctx context.Context, engine string) error {
	p, err := w.startRunner(engine)
	if err != nil {
		return err
	}
	err = w.awaitLane(ctx, p, engine)
	if err == nil {
		_, err = w.js.Publish(ctx, "dbrunner.jobs."+engine+".transaction", []byte(`{"statements":[{"sql":"DELETE FROM effects"}]}`))
	}
	if err == nil {
		err = w.awaitCount(ctx, "DBRUNNER_RESULTS_"+engine, 1)
	}
	return errors.Join(err, p.Stop())
}

// reset makes every backlog begin alike: no results, no effects, no ledger rows.
func (w *world) reset(ctx context.Context, engine string) error {
	if stream, err := w.js.Stream(ctx, "DBRUNNER_RESULTS_"+engine); err == nil {
		if err := stream.Purge(ctx); err != nil {
			return err
		}
	}
	if engine == "sqlite" {
		return execSQLite(ctx, w.sqlite, "DELETE FROM effects", "DELETE FROM dbrunner_ledger",
			"UPDATE accounts SET balance = 0", "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if engine == sqlserver {
		return execSQLServer(ctx, w.mssql, "TRUNCATE TABLE effects", "TRUNCATE TABLE dbrunner.ledger",
			"UPDATE accounts SET balance = 0 WHERE balance <> 0")
	}
	return execPostgres(ctx, w.databaseURL(), "TRUNCATE effects", "TRUNCATE dbrunner.ledger",
		"UPDATE accounts SET balance = 0 WHERE balance <> 0", "VACUUM accounts", "CHECKPOINT")
}
