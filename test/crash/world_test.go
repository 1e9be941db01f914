package crash

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// testTimeout is how long anything may take before a test gives up: recovery is the ack wait and a few seconds.
const testTimeout = 60 * time.Second

// ackWait is the runners' ack wait: short, so that a killed runner's jobs move on soon.
const ackWait = time.Second

// binary is the runner, built once with crash points.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dbrunner-crash")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "runner")
	build := exec.Command("go", "build", "-tags", "crashpoints", "-o", path, "dbrunner/cmd/runner")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the runner: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// world is one NATS server, one database and the runners of a test.
type world struct {
	t    *testing.T
	nats string
	js   jetstream.JetStream
	conn *nats.Conn
	db   *sql.DB       // the test's own way to the database
	pool *pgxpool.Pool // the same, if it is PostgreSQL
	url  string        // the runners' way to it
	kept string        // its table of the ledger
	env  []string

	group    *memoryGroup // that the runners run in; nil: none
	node     *bustest.Node
	postgres *dbtest.PostgresServer // nil: the shared one
}

// setup makes a world whose runners reach the database at runnerURL; the test itself reaches it at testURL.
func setup(t *testing.T, natsURL, runnerURL, testURL string) *world {
	t.Helper()
	w := onNATS(t, natsURL)
	w.reach(testURL)
	w.url, w.kept = runnerURL, "dbrunner.ledger"
	w.exec(`CREATE TABLE effects (name text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())`)
	w.set("SHOP_TYPE=postgres", "SHOP_CONNECTION_STRING="+runnerURL)
	return w
}

// reach gives the test a way to a PostgreSQL server.
func (w *world) reach(url string) {
	w.t.Helper()
	pool, err := pgxpool.New(w.t.Context(), url)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	db := stdlib.OpenDBFromPool(pool)
	w.t.Cleanup(func() { _ = db.Close() })
	w.pool, w.db = pool, db
}

// onNATS makes a world that has no database yet.
func onNATS(t *testing.T, natsURL string) *world {
	t.Helper()
	w := &world{t: t, nats: natsURL}
	conn, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	w.conn = conn
	w.js, err = jetstream.New(conn, jetstream.WithDefaultTimeout(30*time.Second))
	require.NoError(t, err)
	w.env = []string{
		"RUNNER_NATS_URLS=" + natsURL,
		"RUNNER_TOPOLOGY_ACK_WAIT=" + ackWait.String(),
		"RUNNER_DATABASES=shop",
		"SHOP_POOL_MIN=1", "SHOP_POOL_MAX=4",
		"SHOP_LOCK_TIMEOUT=5s",
	}
	return w
}

// set changes a setting of the runners that are started from now on.
func (w *world) set(env ...string) { w.env = append(w.env, env...) }

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.db.ExecContext(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// effects counts the effects of a name.
func (w *world) effects(name string) int {
	w.t.Helper()
	var n int
	require.Eventually(w.t, func() bool { return w.countEffects(name, &n) == nil }, testTimeout, 50*time.Millisecond)
	return n
}

func (w *world) countEffects(name string, n *int) error {
	return w.db.QueryRowContext(w.t.Context(), `SELECT count(*) FROM effects WHERE name = '`+name+`'`).Scan(n)
}

// sleeping waits until a session of the database executes a statement with this text.
func (w *world) sleeping(text string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var n int
		err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE state = 'active' AND datname = current_database() AND pid <> pg_backend_pid() AND strpos(query, $1) > 0`, text).Scan(&n)
		return err == nil && n == 1
	}, testTimeout, 10*time.Millisecond)
}

// runner is one runner process.
type runner struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *lockedBuffer
	exited chan struct{}
	err    error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts a runner process; what the environment adds goes to it alone.
func (w *world) start(name string, env ...string) *runner {
	w.t.Helper()
	path, err := binary()
	require.NoError(w.t, err)
	return w.startAs(path, name, env...)
}

// startAs is start with another runner's binary.
func (w *world) startAs(path, name string, env ...string) *runner {
	w.t.Helper()
	r := &runner{t: w.t, output: &lockedBuffer{}, exited: make(chan struct{})}
	r.cmd = exec.Command(path, "serve")
	if w.group != nil {
		r.cmd = w.group.enter(r.cmd)
	}
	r.cmd.Dir = w.t.TempDir()
	r.cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.cmd.Dir, "RUNNER_INSTANCE=" + name}, w.env...), env...)
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, r.cmd.Start())
	go func() {
		defer close(r.exited)
		r.err = r.cmd.Wait()
	}()
	w.t.Cleanup(func() {
		r.kill()
		if w.t.Failed() {
			w.t.Logf("output of runner %s:\n%s", name, r.output)
		}
	})
	return r
}

// serving waits until the streams are there: jobs can be published.
func (w *world) serving() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		_, err := w.js.Stream(w.t.Context(), "DBRUNNER_JOBS_shop")
		return err == nil
	}, testTimeout, 20*time.Millisecond)
}

func (r *runner) kill() {
	_ = r.cmd.Process.Kill()
	<-r.exited
}

// died waits until the process has killed itself.
func (r *runner) died() {
	r.t.Helper()
	r.wait()
	status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(r.t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "exit: %v\n%s", r.err, r.output)
}

func (r *runner) wait() {
	r.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(testTimeout):
		require.Fail(r.t, "the runner still runs", "%s", r.output)
	}
}

func (r *runner) signal(sig syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(sig))
}

// publish publishes a job and waits for the stream's acknowledgement, as often as it takes.
func (w *world) publish(kind, body string) uint64 {
	w.t.Helper()
	return w.publishTo("jobs.shop."+kind, body)
}

// publishTo publishes to a subject of the namespace.
func (w *world) publishTo(subject, body string) uint64 {
	w.t.Helper()
	var sequence uint64
	require.Eventually(w.t, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		ack, err := w.js.Publish(ctx, "dbrunner."+subject, []byte(body), jetstream.WithRetryAttempts(0))
		if err == nil {
			sequence = ack.Sequence
		}
		return err == nil
	}, testTimeout, 50*time.Millisecond)
	return sequence
}

// result is a stored result.
type result struct {
	JobID      string `json:"job_id"`
	Status     string
	Duplicate  bool
	Deliveries int
	Sequence   uint64
	Runner     string
	Error      struct{ Code, Message string }
}

// stored waits for the stored result of a job.
func (w *world) stored(id string) result {
	w.t.Helper()
	var r result
	require.Eventually(w.t, func() bool {
		body := w.lookup(id)
		if body == nil {
			return false
		}
		require.NoError(w.t, json.Unmarshal(body, &r))
		return true
	}, testTimeout, 20*time.Millisecond, "no result of %s", id)
	return r
}

func (w *world) lookup(id string) []byte {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, "DBRUNNER_RESULTS_shop")
	if err != nil {
		return nil
	}
	message, err := stream.GetLastMsgForSubject(ctx, "dbrunner.results.shop."+id)
	if err != nil {
		return nil
	}
	return message.Data
}

// drained waits until no job is left in the stream.
func (w *world) drained() {
	w.t.Helper()
	w.drainedWithin(testTimeout)
}

func (w *world) drainedWithin(limit time.Duration) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := w.js.Stream(ctx, "DBRUNNER_JOBS_shop")
		if err != nil {
			return false
		}
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs == 0
	}, limit, 50*time.Millisecond, "jobs are left in the stream")
}

// startWatching counts how often each result was published to plain subscribers.
func (w *world) startWatching() func(id string) int {
	w.t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	_, err := w.conn.Subscribe("dbrunner.results.shop.*", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]++
	})
	require.NoError(w.t, err)
	require.NoError(w.t, w.conn.Flush())
	return func(id string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[id]
	}
}

// deadLetters returns the headers of all dead letters.
func (w *world) deadLetters() []nats.Header {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "DBRUNNER_DEAD")
	require.NoError(w.t, err)
	info, err := stream.Info(w.t.Context())
	require.NoError(w.t, err)
	var headers []nats.Header
	for seq := info.State.FirstSeq; seq != 0 && seq <= info.State.LastSeq; seq++ {
		if m, err := stream.GetMsg(w.t.Context(), seq); err == nil {
			headers = append(headers, m.Header)
		}
	}
	return headers
}

// insert is a transaction job with one effect.
func insert(id, name string) string {
	return fmt.Sprintf(`{"id":%q,"statements":[{"sql":"INSERT INTO effects (name) VALUES (:name)","params":{"name":%q},"expect_rows":1}]}`, id, name)
}
