package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/jackc/pgx/v5"

	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
)

// maxConnections of the PostgreSQL server: few, so that they can be used up.
const maxConnections = 80

// world is the servers, which all runs share: each has a namespace, a database and files of its own.
type world struct {
	dir      string
	cluster  *cluster
	postgres *dbtest.PostgresServer
	proxy    *cutproxy.Proxy

	sqlserver *sqlServer // nil: none is named

	mu       sync.Mutex        // held while PostgreSQL is stopped, restarted or paused
	binaries map[string]string // of runners, by mutant
}

func newWorld(ctx context.Context, syncAlways bool, sqlserver string) (w *world, err error) {
	w = &world{binaries: map[string]string{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "dbrunner-faults-"); err != nil {
		return w, err
	}
	w.postgres, err = dbtest.LaunchPostgres(fmt.Sprintf("max_connections=%d", maxConnections), "deadlock_timeout=100ms", //nolint:contextcheck // it bounds its own start
		"log_min_messages=warning", "track_commit_timestamp=on", "autovacuum_naptime=10s")
	if err != nil {
		return w, err
	}
	if err = w.exec(ctx, "postgres", "CREATE ROLE runner LOGIN"); err != nil {
		return w, err
	}
	if w.proxy, err = cutproxy.Launch(w.postgres.Address()); err != nil {
		return w, err
	}
	if w.sqlserver, err = joinSQLServer(ctx, sqlserver); err != nil {
		return w, err
	}
	if w.cluster, err = newCluster(w.dir, syncAlways); err != nil {
		return w, err
	}
	return w, w.cluster.whole(ctx)
}

func (w *world) close() {
	if w.cluster != nil {
		w.cluster.close()
	}
	if w.proxy != nil {
		w.proxy.Close()
	}
	if w.sqlserver != nil {
		w.sqlserver.close()
	}
	if w.postgres != nil {
		w.postgres.Close()
	}
	if w.dir != "" {
		_ = os.RemoveAll(w.dir)
	}
}

// exec runs statements as the server's administrator.
func (w *world) exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, w.postgres.URL(database))
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

// ask reads one value as the server's administrator.
func (w *world) ask(ctx context.Context, query string, into any) error {
	conn, err := pgx.Connect(ctx, w.postgres.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.QueryRow(ctx, query).Scan(into)
}

// build builds a runner with crash points. An overlay replaces files of its source; empty: none.
func (w *world) build(ctx context.Context, name, overlay string) (string, error) {
	if path := w.binaries[name]; path != "" {
		return path, nil
	}
	path := filepath.Join(w.dir, "runner-"+name)
	args := []string{"build", "-tags", "crashpoints", "-o", path}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "dbrunner/cmd/runner")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the runner %s: %w", name, err), errors.New(string(out)))
	}
	w.binaries[name] = path
	return path, nil
}
