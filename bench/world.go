package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/db/dbtest"
)

// bareStream has the bare worker's jobs: a work queue on files, as the runner's.
const bareStream = "BENCH_BARE"

// world is the servers, the databases and the orchestrator's own connection.
type world struct {
	opts     options
	dir      string
	nats     *process
	url      string
	postgres *dbtest.PostgresServer
	sqlite   string
	mssql    string // connection string; empty: no SQL Server is measured
	nc       *nats.Conn
	js       jetstream.JetStream
	serial   int // of backlogs: job ids are never used twice
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
	if w.nats, err = startRole("nats", args...); err != nil {
		return nil, err
	}
	if w.url, err = w.nats.line(); err != nil {
		return nil, err
	}
	return w, w.connect(ctx)
}

func (w *world) connect(ctx context.Context) (err error) {
	if w.nc, err = nats.Connect(w.url); err != nil {
		return err
	}
	if w.js, err = jetstream.New(w.nc, jetstream.WithPublishAsyncMaxPending(2000)); err != nil {
		return err
	}
	stream, err := w.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: bareStream, Subjects: []string{"bare.jobs"}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return err
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "work", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000, AckWait: 30 * time.Second,
	})
	return err
}

func (w *world) close() {
	if w.nc != nil {
		w.nc.Close()
	}
	if w.nats != nil {
		_ = w.nats.stop()
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
	env := []string{
		"RUNNER_NATS_URLS=" + w.url, "RUNNER_LOG_LEVEL=warn", "TMPDIR=" + w.dir,
		"RUNNER_TOPOLOGY_JOBS_MAX_MESSAGES=2000000", "RUNNER_TOPOLOGY_JOBS_MAX_MESSAGES_PER_KIND=2000000",
		"RUNNER_TOPOLOGY_JOBS_MAX_BYTES=4GiB", "RUNNER_TOPOLOGY_RESULTS_MAX_BYTES=16GiB",
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
func (w *world) startRunner(engine string) (*process, error) {
	return start(w.runnerEnvironment(map[string]string{engine: w.target(engine)}, w.opts.environment...), w.opts.runner, "serve")
}

func (w *world) startBare(engine string) (*process, error) {
	args := []string{"-nats", w.url, "-stream", bareStream, "-engine", engine}
	if engine != "none" {
		args = append(args, "-database", w.target(engine))
	}
	return startRole("bare", args...)
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
	return errors.Join(err, p.stop())
}

// awaitLane waits until a database's consumer is there.
func (w *world) awaitLane(ctx context.Context, p *process, database string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := w.js.Consumer(ctx, "DBRUNNER_JOBS_"+database, "work")
		if err == nil || ctx.Err() != nil {
			return err
		}
		if p.ended() {
			return errors.New("the runner does not start")
		}
		wait(ctx, 20*time.Millisecond)
	}
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
