package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// testTimeout bounds everything that a test waits for.
const testTimeout = 60 * time.Second

// asFlow makes the test binary behave as the flow: a process that can be killed.
const asFlow = "DBRUNNER_TEST_AS_FLOW"

func TestMain(m *testing.M) {
	if os.Getenv(asFlow) != "" {
		main()
		return
	}
	code := dbtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

// world is a NATS server, a SQLite database lite and a PostgreSQL database shop.
type world struct {
	t    *testing.T
	node *bustest.Node
	lite string
	shop string
}

func setup(t *testing.T) *world {
	t.Helper()
	return &world{t: t, shop: dbtest.Postgres(t), node: bustest.Server(t), lite: filepath.Join(t.TempDir(), "lite.db")}
}

// startRunner starts a runner for both databases and returns what ends it in order.
func (w *world) startRunner() (end func()) {
	w.t.Helper()
	cfg := config.Default()
	cfg.NATS.URLs = []string{w.node.ClientURL()}
	for name, d := range map[string][2]string{"lite": {"sqlite", w.lite}, "shop": {"postgres", w.shop}} {
		cfg.Databases[name] = cfg.Defaults.NewDatabase(d[0], config.NewSecret(d[1]))
		cfg.Databases[name].Pool.Min, cfg.Databases[name].Pool.Max = 1, 4
	}
	require.NoError(w.t, cfg.Complete(manager.Words()))
	runner, err := app.New(app.Options{Config: cfg, Logger: zap.NewNop(), Version: "test"})
	require.NoError(w.t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	end = sync.OnceFunc(func() {
		stop()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(end)
	select {
	case <-runner.Started():
	case <-time.After(testTimeout):
		require.FailNow(w.t, "the runner does not start")
	}
	return end
}

// exec executes SQL on shop.
func (w *world) exec(sql string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.shop)
	require.NoError(w.t, err)
	_, err = conn.Exec(w.t.Context(), sql)
	require.NoError(w.t, err)
	require.NoError(w.t, conn.Close(w.t.Context()))
}

// bookings returns how many rows and how many distinct steps of a run shop has.
func (w *world) bookings(run string) (rows, steps int) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.shop)
	require.NoError(w.t, err)
	err = conn.QueryRow(w.t.Context(), `SELECT count(*), count(DISTINCT step) FROM flow_bookings WHERE flow_run = $1`, run).Scan(&rows, &steps)
	require.NoError(w.t, err)
	require.NoError(w.t, conn.Close(w.t.Context()))
	return rows, steps
}

// life is one process of the flow.
type life struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	text  strings.Builder
}

// startFlow starts a process of the flow over both databases.
func (w *world) startFlow(args ...string) *life {
	w.t.Helper()
	self, err := os.Executable()
	require.NoError(w.t, err)
	ctx, cancel := context.WithTimeout(w.t.Context(), testTimeout)
	w.t.Cleanup(cancel)
	l := &life{t: w.t, cmd: exec.CommandContext(ctx, self, append([]string{"--server", w.node.ClientURL(), "--databases", "lite,shop"}, args...)...)}
	l.cmd.Env = append(os.Environ(), asFlow+"=1")
	out, err := l.cmd.StdoutPipe()
	require.NoError(w.t, err)
	l.cmd.Stderr = l.cmd.Stdout
	require.NoError(w.t, l.cmd.Start())
	l.lines = bufio.NewScanner(out)
	return l
}

// await reads the output up to a line with this text.
func (l *life) await(text string) {
	l.t.Helper()
	for l.lines.Scan() {
		l.text.WriteString(l.lines.Text() + "\n")
		if strings.Contains(l.lines.Text(), text) {
			return
		}
	}
	require.FailNow(l.t, "the flow ended early", "no %q in:\n%s", text, &l.text)
}

// end waits for the process and returns its exit code, -1 if it was killed, and all of its output.
func (l *life) end() (code int, text string) {
	l.t.Helper()
	for l.lines.Scan() {
		l.text.WriteString(l.lines.Text() + "\n")
	}
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode(), l.text.String()
}
