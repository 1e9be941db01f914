package node_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

const testTimeout = 3 * time.Minute

// TestPublisher installs the example's packages and runs it against a real server and runner.
func TestPublisher(t *testing.T) {
	t.Parallel()
	dir := install(t)
	url := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for range 2 { // the second life of a run finds the results of the first
		out, err := command(ctx, dir, "node", "publisher.js", "--server", url, "--database", "shop", "--run", "r1").CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, text := range []string{
			`{"id":1,"owner":"Ada","balance":100}`, "first acknowledgement: ", "second acknowledgement: duplicate",
			"succeeded  r1-transfer", "rejected  r1-mistaken", `did you mean "sql"?`, "no stream takes dbrunner.jobs.shop.nosuch",
		} {
			require.Contains(t, string(out), text)
		}
	}
}

// install copies the example and gets its packages, so that nothing is written beside the sources.
func install(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, "no Node.js: %v", err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "publisher.js"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	if out, err := command(ctx, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts").CombinedOutput(); err != nil {
		code := npmCode(out)
		require.NotContains(t, ownFaults, code, "the example's packages are not what it says: %s", out)
		skip(t, "npm cannot get the packages: %v, code %q", err, code)
	}
	return dir
}

// skip skips the test, or fails it where services are required.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	require.NotEqualf(t, "1", os.Getenv("REQUIRE_SERVICES"), format, args...)
	t.Skipf("SKIPPED, not tested: "+format, args...)
}

// ownFaults are npm's codes for faults of the example's own files: they are no reason to skip, as a registry is that is away.
var ownFaults = []string{"EUSAGE", "EINTEGRITY", "EJSONPARSE", "ETARGET"}

// npmCode finds the code by which npm says in its output why it failed, "" if it gives none.
func npmCode(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if code, found := strings.CutPrefix(line, "npm error code "); found {
			return strings.TrimSpace(code)
		}
	}
	return ""
}

func command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	return cmd
}

// serve starts a NATS server and a runner for a database with accounts.
func serve(t *testing.T) (url string) {
	t.Helper()
	node := bustest.Server(t)
	cfg := config.Default()
	cfg.NATS.URLs = []string{node.ClientURL()}
	cfg.Databases["shop"] = cfg.Defaults.NewDatabase("sqlite", config.NewSecret(filepath.Join(t.TempDir(), "shop.db")))
	require.NoError(t, cfg.Complete(manager.Words()))
	runner, err := app.New(app.Options{Config: cfg, Logger: zap.NewNop(), Version: "test"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	<-runner.Started()
	_, js := bustest.Plain(t, node.ClientURL())
	create := `{"id":"create","statements":[{"sql":"CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)"},
		{"sql":"INSERT INTO accounts VALUES (1, 'Ada', 100), (2, 'Grace', 100)"}]}`
	_, err = js.Publish(t.Context(), "dbrunner.jobs.shop.transaction", []byte(create))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return stored(t.Context(), js, "create") == nil }, testTimeout, 10*time.Millisecond)
	return node.ClientURL()
}

func stored(ctx context.Context, js jetstream.JetStream, id string) error {
	results, err := js.Stream(ctx, "DBRUNNER_RESULTS_shop")
	if err != nil {
		return err
	}
	if _, err := results.GetLastMsgForSubject(ctx, "dbrunner.results.shop."+id); err != nil {
		return fmt.Errorf("no result yet: %w", err)
	}
	return nil
}
