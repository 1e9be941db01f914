package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// submitWaiting publishes the job "slow", which waits for a lock in the database "books" until release is called, and
// returns when it waits. A runner serves books by the configuration of withBooks.
func (w *world) submitWaiting(books string) (release func()) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), books)
	require.NoError(w.t, err)
	release = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	w.t.Cleanup(release)
	_, err = conn.Exec(w.t.Context(), "SELECT pg_advisory_lock(4711)")
	require.NoError(w.t, err)
	require.Equal(w.t, exitOK, w.run("", "submit", "-d", "books", "--id", "slow", "--sql", "SELECT 1 AS n FROM pg_advisory_xact_lock(4711)",
		"--no-wait").code)
	require.Eventually(w.t, func() bool {
		var n int
		err := conn.QueryRow(w.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "+
			"wait_event = 'advisory'").Scan(&n)
		return err == nil && n == 1
	}, testTimeout, pollEvery, "the job does not wait")
	return release
}

// withBooks adds a PostgreSQL database to the configuration and returns its connection string.
func (w *world) withBooks() string {
	w.t.Helper()
	books := dbtest.Postgres(w.t)
	file, err := os.OpenFile(w.config, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(w.t, err)
	_, err = file.WriteString("  books:\n    type: postgres\n    connection_string: " + books + "\n    lock_timeout: 50s\n")
	require.NoError(w.t, err)
	require.NoError(w.t, file.Close())
	return books
}

// awaitAckPending waits until a number of the world's jobs is being worked on.
func (w *world) awaitAckPending(n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		c, err := w.js.Consumer(context.Background(), "DBRUNNER_JOBS_shop", "work")
		return err == nil && c.CachedInfo().NumAckPending == n
	}, testTimeout, pollEvery)
}

// serving starts a runner whose standard error is a file that no other process may read or hold.
func (w *world) serving(stderr *os.File, env ...string) *process {
	w.t.Helper()
	p := newProcess(w.t, "serve", "--config", w.config)
	p.cmd.Stdout, p.cmd.Stderr = stderr, stderr
	p.cmd.Env = append(append(p.cmd.Env, "RUNNER_LOG_LEVEL=debug"), env...)
	p.start()
	require.NoError(w.t, stderr.Close())
	return p
}

func (w *world) succeeds(id, sql string) {
	w.t.Helper()
	got := w.run("", "submit", "-d", "shop", "--id", id, "--sql", sql, "--timeout", testTimeout.String())
	require.Equal(w.t, exitOK, got.code, "%s%s", got.out, got.err)
}

// A log without a reader, on a full disk or with a reader who has stopped keeps no job from running and no drain from
// ending.
func TestLogThatTakesNothing(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (out *os.File, gone func()){
		"its reader dies": func(t *testing.T) (*os.File, func()) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			return w, func() { require.NoError(t, r.Close()) }
		},
		"its reader stops": func(t *testing.T) (*os.File, func()) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, r.Close()) })
			fill, err := syscall.Dup(int(w.Fd()))
			require.NoError(t, err)
			return w, func() {
				require.NoError(t, syscall.SetNonblock(fill, true))
				for n := 1 << 16; n > 0; {
					if _, err := syscall.Write(fill, make([]byte, n)); err != nil {
						n /= 2
					}
				}
				require.NoError(t, syscall.SetNonblock(fill, false))
				require.NoError(t, syscall.Close(fill))
			}
		},
		"the disk is full": func(t *testing.T) (*os.File, func()) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			require.NoError(t, err)
			return full, func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := prepare(t)
			books := w.withBooks()
			out, gone := open(t)
			p := w.serving(out)
			w.succeeds("first", "SELECT 1 AS n")
			gone()
			for range 3 { // each one's end is a line of the log
				w.succeeds("", "SELECT 1 AS n")
			}
			w.awaitAckPending(0)
			release := w.submitWaiting(books)
			time.AfterFunc(100*time.Millisecond, release) // while it drains
			require.Equal(t, exitOK, p.terminate())
			got := w.run("", "result", "get", "books", "slow", "--json")
			require.Contains(t, got.out, `"succeeded"`, got.err)
		})
	}
}

// A terminal that is gone, and a service manager that sends SIGHUP beside SIGTERM, have the runner drain, once.
func TestHangUpDrains(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string][]syscall.Signal{
		"once":          {syscall.SIGHUP},
		"twice":         {syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP},
		"after SIGTERM": {syscall.SIGTERM, syscall.SIGHUP},
		"before it":     {syscall.SIGHUP, syscall.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := prepare(t)
			books := w.withBooks()
			p := startProcess(t, "serve", "--config", w.config)
			p.await("runner started")
			release := w.submitWaiting(books)
			for i, s := range signals {
				require.NoError(t, p.cmd.Process.Signal(s))
				if i == 0 {
					p.await("runner draining")
				}
			}
			release()
			p.awaitEnd()
			require.Equal(t, exitOK, p.cmd.ProcessState.ExitCode(), "%s", p.output())
			require.Contains(t, p.output(), `"cause":"`+signalName(signals[0])+`"`)
			got := w.run("", "result", "get", "books", "slow", "--json")
			require.Contains(t, got.out, `"succeeded"`, got.err)
		})
	}
}

// timeout(1) sends each signal twice within a moment, to its command and to its process group: that is one request.
func TestSignalTwiceInAMomentDrains(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	books := w.withBooks()
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	release := w.submitWaiting(books)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(5 * time.Millisecond) // by the clock: the kernel merges a signal with one that is not delivered yet
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.await("runner draining")
	release()
	p.awaitEnd()
	require.Equal(t, exitOK, p.cmd.ProcessState.ExitCode(), "%s", p.output())
}

func (p *process) awaitEnd() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(testTimeout):
		require.FailNow(p.t, "the process does not end", "%s", p.output())
	}
}

// Signals that are of no meaning for the runner, and SIGHUP under nohup, change nothing.
func TestSignalsThatChangeNothing(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := newProcess(t, "serve", "--config", w.config)
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	p.cmd.Args = append([]string{"sh", "-c", `trap '' HUP; exec "$0" "$@"`, p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = shell
	p.start()
	p.await("runner started")
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGTTOU, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGXFSZ,
	} {
		require.NoError(t, p.cmd.Process.Signal(s))
		w.succeeds("", "SELECT 1 AS n")
	}
	require.NotContains(t, p.output(), "draining")
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

// SIGQUIT and a crash of the Go runtime have an exit code that no fault of the configuration has.
func TestCrashIsNoConfigurationError(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGQUIT))
	p.awaitEnd()
	require.Equal(t, 2, p.cmd.ProcessState.ExitCode())
	require.Contains(t, p.output(), "goroutine ")
	require.NotEqual(t, exitUsage, p.cmd.ProcessState.ExitCode())

	wrong := startProcess(t, "serve", "--config", w.config+".none")
	wrong.awaitEnd()
	require.Equal(t, exitUsage, wrong.cmd.ProcessState.ExitCode(), "%s", wrong.output())
}

// A command whose reader has gone does its work to the end.
func TestReaderOfACommandGone(t *testing.T) {
	t.Parallel()
	r, out, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	p := newProcess(t, "version")
	p.cmd.Stdout = out
	p.start()
	require.NoError(t, out.Close())
	p.awaitEnd()
	require.Equal(t, exitPipe, p.cmd.ProcessState.ExitCode())
	require.Empty(t, p.output())
}

// choked is a log that accepts nothing until it is released.
type choked struct {
	free chan struct{}
	text bytes.Buffer
}

func (c *choked) Write(b []byte) (int, error) {
	<-c.free
	return c.text.Write(b)
}

// Lines for which there is no room are counted, and their number is reported.
func TestLostLinesAreCounted(t *testing.T) {
	t.Parallel()
	out := &choked{free: make(chan struct{})}
	log, _, closeLog, err := newLogger(&config.Log{Level: "info", Format: "json"}, out)
	require.NoError(t, err)
	for i := range 2 * maxLines {
		log.Info(strings.Repeat("x", 1+i%997)) // texts of their own: they are not sampled
	}
	close(out.free)
	closeLog()
	require.Contains(t, out.text.String(), `"msg":"log lines lost","lines":`)
}

// A variable that only clients read is named where the runner's own one is missing.
func TestServeNamesClientVariables(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	for _, own := range []bool{false, true} {
		p := newProcess(t, "serve")
		p.cmd.Env = append(p.cmd.Env, "NATS_URL="+w.node.ClientURL(), "RUNNER_DATABASES=shop", "SHOP_TYPE=sqlite",
			"RUNNER_NATS_CONNECT_TIMEOUT=200ms", "SHOP_CONNECTION_STRING="+filepath.Join(t.TempDir(), "shop.db"))
		if own {
			p.cmd.Env = append(p.cmd.Env, "RUNNER_NATS_URLS="+w.node.ClientURL())
		}
		p.start()
		if own {
			p.await("runner started")
			require.Equal(t, exitOK, p.terminate())
			require.NotContains(t, p.output(), "NATS_URL is set")
			continue
		}
		p.await("NATS_URL is set, but serve does not read it; set RUNNER_NATS_URLS")
	}
}

// A signal that ends runner wait is not reported as the end of its timeout.
func TestWaitReportsTheSignal(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := startProcess(t, "wait", "nosuch", "--server", w.node.ClientURL(), "--timeout", "5m")
	p.await("nosuch: not ready")
	require.Equal(t, exitFailure, p.terminate())
	require.Contains(t, p.output(), "SIGTERM; not ready: nosuch")
	require.NotContains(t, p.output(), "within")
}
