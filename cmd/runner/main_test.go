package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// testTimeout bounds everything that a test waits for.
const testTimeout = 60 * time.Second

// pollEvery is the pause between two looks at something that a test waits for.
const pollEvery = 50 * time.Millisecond

// asRunner makes the test binary behave as the runner: processes are tested without building twice.
const asRunner = "DBRUNNER_TEST_AS_RUNNER"

func TestMain(m *testing.M) {
	if os.Getenv(asRunner) != "" {
		main()
		return
	}
	// Where the tests run under nohup, SIGHUP is ignored, and the processes that they start would inherit that.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	code := dbtest.Main(m)
	signal.Stop(signals)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

// command is the runner as a process of its own.
func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asRunner+"=1")
	cmd.WaitDelay = testTimeout
	return cmd
}

// outcome is what a command that was run in this process did.
type outcome struct {
	code     int
	out, err string
}

func runCommand(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	return outcome{code: code, out: out.String(), err: errOut.String()}
}

func (o outcome) json(t *testing.T, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(o.out), into), "%s%s", o.out, o.err)
}

// world is a NATS server with a runner process that serves the SQLite database shop.
type world struct {
	t      *testing.T
	node   *bustest.Node
	js     jetstream.JetStream
	config string
}

const configText = `
instance: tester
nats:
  urls: [%s]
topology:
  results:
    max_age: %s
databases:
  shop:
    type: sqlite
    connection_string: %s
    pool: {min: 1, max: 4}
`

// prepare makes a NATS server and a configuration.
func prepare(t *testing.T) *world {
	t.Helper()
	node := bustest.Server(t)
	_, js := bustest.Plain(t, node.ClientURL())
	w := &world{t: t, node: node, js: js}
	w.config = w.write("24h")
	return w
}

func (w *world) write(maxAge string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	file := filepath.Join(dir, "runner.yaml")
	text := fmt.Sprintf(configText, w.node.ClientURL(), maxAge, filepath.Join(dir, "shop.db"))
	require.NoError(w.t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// setup is prepare with a runner that serves.
func setup(t *testing.T) *world {
	t.Helper()
	w := prepare(t)
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	t.Cleanup(func() { require.Equal(t, exitOK, p.terminate(), "%s", p.output()) })
	return w
}

// run runs a client command at this world's server.
func (w *world) run(stdin string, args ...string) outcome {
	w.t.Helper()
	return runCommand(w.t, stdin, append(args, "--config", w.config)...)
}

// process is a runner process under way.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := newProcess(t, args...)
	p.start()
	return p
}

func newProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(context.Background(), t, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	return p
}

func (p *process) start() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code is looked at by terminate
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // has ended already in a test that passes
		<-p.done
	})
}

// Write takes the process' output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// await waits until the process has printed a text.
func (p *process) await(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		select {
		case <-p.done:
			return true
		default:
			return strings.Contains(p.output(), text)
		}
	}, testTimeout, 10*time.Millisecond, "no %q", text)
	require.Contains(p.t, p.output(), text)
}

// terminate ends the process by SIGTERM and returns its exit code.
func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(p.t, err)
	}
	select {
	case <-p.done:
	case <-time.After(testTimeout):
		require.FailNow(p.t, "the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}
