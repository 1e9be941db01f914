package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

// endless is a query that never finishes.
const endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000000) SELECT count(*) AS n FROM c"

func TestServeFromEnvironmentAlone(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := newProcess(t, "serve")
	p.cmd.Env = append(p.cmd.Env, "RUNNER_NATS_URLS="+w.node.ClientURL(), "RUNNER_DATABASES=shop", "SHOP_TYPE=sqlite",
		"SHOP_CONNECTION_STRING="+filepath.Join(t.TempDir(), "shop.db"))
	p.start()
	p.await("runner started")
	got := runCommand(t, "", "submit", "--server", w.node.ClientURL(), "-d", "shop", "--sql", "SELECT 1 AS n")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
	require.Contains(t, p.output(), "runner stopped")
}

// After the first signal running jobs continue, after the second one the process exits immediately.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", endless, "--no-wait").code)
	require.Eventually(t, func() bool { // one that is only delivered would be requeued, and the drain would be over
		return strings.Contains(w.run("", "ps", "shop", "--json").out, `"executing"`)
	}, testTimeout, pollEvery)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.await("runner draining")
	time.Sleep(2 * sameRequest) // by the clock: a request of its own
	started := time.Now()
	require.Equal(t, exitSignal, p.terminate())
	require.Less(t, time.Since(started), 10*time.Second)
}

func TestStrict(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	p := newProcess(t, "serve", "--strict")
	p.cmd.Env = append(p.cmd.Env, "RUNNER_NATS_URLS="+w.node.ClientURL(), "RUNNER_DATABASES=shop", "SHOP_TYPE=postgres",
		"SHOP_CONNECTION_STRING=postgres://user:geheim@127.0.0.1:1/shop?sslmode=disable")
	p.start()
	select {
	case <-p.done:
	case <-time.After(testTimeout):
		require.FailNow(t, "it does not end")
	}
	require.Equal(t, exitFailure, p.cmd.ProcessState.ExitCode(), "%s", p.output())
	require.Contains(t, p.output(), "database shop")
	require.NotContains(t, p.output(), "geheim")
}

// A client signs in as flags and environment say; a password has no flag.
func TestSignIn(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "geheim")
	node := bustest.Server(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "operator", Password: "geheim"}}
	})
	refused := runCommand(t, "", "topology", "show", "--server", node.ClientURL())
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "refused the credentials")
	got := runCommand(t, "", "topology", "show", "--server", node.ClientURL(), "--user", "operator")
	require.Equal(t, exitOK, got.code, got.err)
	t.Setenv("NATS_PASSWORD", "\uFEFFgeheim")
	odd := runCommand(t, "", "topology", "show", "--server", node.ClientURL(), "--user", "operator")
	require.Equal(t, exitUsage, odd.code)
	require.Contains(t, odd.err, "byte order mark (U+FEFF)")
	t.Setenv("NATS_PASSWORD", "geheim\n")
	t.Setenv("NATS_USER", "operator")
	t.Setenv("NATS_URL", node.ClientURL())
	got = runCommand(t, "", "topology", "show")
	require.Equal(t, exitOK, got.code, got.err)
}

// The crash tests build the runner with a tag.
func TestBuildsWithCrashPoints(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-tags", "crashpoints", ".")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
