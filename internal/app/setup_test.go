package app_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/contract/schema/schematest"
	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	if err := goleak.Find(bustest.IgnorePublisher()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

// testTimeout bounds everything that a test waits for.
const testTimeout = 90 * time.Second

// world is a NATS server and an upstream system at it.
type world struct {
	t    testing.TB
	node *bustest.Node
	nc   *nats.Conn
	js   jetstream.JetStream

	count int // of ids that a test has made up
}

func setup(t *testing.T) *world {
	t.Helper()
	node := bustest.Server(t)
	nc, js := bustest.Plain(t, node.ClientURL())
	return &world{t: t, node: node, nc: nc, js: js}
}

// config is the configuration of a runner of this world.
func (w *world) config(instance string, change ...func(*config.Config)) *config.Config {
	w.t.Helper()
	cfg := config.Default()
	cfg.Instance = instance
	cfg.NATS.URLs = []string{w.node.ClientURL()}
	cfg.NATS.ReconnectWait = 20 * time.Millisecond
	cfg.Worker.HeartbeatInterval = time.Second
	for _, f := range change {
		f(cfg)
	}
	require.NoError(w.t, cfg.Complete(manager.Words()))
	return cfg
}

// withDatabase configures a database with few connections.
func withDatabase(name, engine, connection string, change ...func(*config.Database)) func(*config.Config) {
	return func(cfg *config.Config) {
		d := cfg.Defaults.NewDatabase(engine, config.NewSecret(connection))
		d.Pool.Min, d.Pool.Max = 1, 4
		d.Pool.ConnectTimeout = 2 * time.Second
		for _, f := range change {
			f(d)
		}
		cfg.Databases[name] = d
	}
}

// onTestServer allows a SQL Server of a test to lack encryption, and a certificate that anybody knows, and to be slow.
func onTestServer(d *config.Database) {
	if d.Type == "sqlserver" {
		d.Pool.ConnectTimeout = 30 * time.Second
		d.Settings = map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"}
	}
}

func withSQLite(t *testing.T, name string) func(*config.Config) {
	t.Helper()
	return withDatabase(name, "sqlite", filepath.Join(t.TempDir(), name+".db"))
}

// runner is a runner under way.
type runner struct {
	app  *app.App
	logs *observer.ObservedLogs
	stop context.CancelFunc
	done chan struct{}
	err  error
	once sync.Once
}

// start starts a runner and waits until its lanes run.
func (w *world) start(cfg *config.Config) *runner {
	w.t.Helper()
	return w.startWith(app.Options{Config: cfg})
}

func (w *world) startWith(opts app.Options) *runner {
	w.t.Helper()
	r := w.launch(opts)
	select {
	case <-r.app.Started():
	case <-r.done:
		require.FailNow(w.t, "the runner did not start", "%v", r.err)
	case <-time.After(testTimeout):
		require.FailNow(w.t, "the runner does not start")
	}
	return r
}

func (w *world) launch(opts app.Options) *runner {
	w.t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	opts.Logger, opts.Version = zap.New(core), "test"
	a, err := app.New(opts)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &runner{app: a, logs: logs, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = a.Run(ctx)
	}()
	w.t.Cleanup(func() { r.end(w.t) })
	return r
}

// end stops the runner and waits for it; it must end without an error.
func (r *runner) end(t testing.TB) {
	t.Helper()
	r.stop()
	r.wait(t)
	r.once.Do(func() { require.NoError(t, r.err) })
}

// fails waits until the runner has ended by itself and returns its error.
func (r *runner) fails(t testing.TB) error {
	t.Helper()
	r.wait(t)
	r.once.Do(func() {})
	require.Error(t, r.err)
	return r.err
}

func (r *runner) wait(t testing.TB) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(testTimeout):
		require.FailNow(t, "the runner does not end")
	}
}

// result is what tests look at in a result.
type result struct {
	JobID     string `json:"job_id"`
	Status    string `json:"status"`
	Duplicate bool   `json:"duplicate"`
	Effect    string `json:"effect"`
	Runner    string `json:"runner"`
	Rows      any    `json:"rows"`
	RowCount  int    `json:"row_count"`
	Sets      []struct {
		RowsAffected int `json:"rows_affected"`
	} `json:"statements"`
	Deliveries int `json:"deliveries"`
	Error      *struct {
		Code   string `json:"code"`
		Faults []struct {
			Path string `json:"path"`
		} `json:"faults"`
	} `json:"error"`
}

func parse(t testing.TB, raw []byte) *result {
	t.Helper()
	requireSchema(t, "result", raw)
	var r result
	require.NoError(t, json.Unmarshal(raw, &r), "%s", raw)
	return &r
}

// requireSchema validates what a runner published.
func requireSchema(t testing.TB, name string, body []byte) {
	t.Helper()
	require.NoError(t, schematest.Validate(t, schematest.Named(t, name), body), "%s", body)
}

// publish publishes a job; its body has its id.
func (w *world) publish(database, kind, body string) {
	w.t.Helper()
	_, err := w.js.Publish(w.t.Context(), "dbrunner.jobs."+database+"."+kind, []byte(body))
	require.NoError(w.t, err)
}

// do publishes a job and awaits its stored result.
func (w *world) do(database, kind, id, rest string) *result {
	w.t.Helper()
	w.publish(database, kind, fmt.Sprintf(`{"id":%q,%s}`, id, rest))
	return w.await(database, id)
}

// await awaits a stored result.
func (w *world) await(database, id string) *result {
	w.t.Helper()
	var raw []byte
	require.Eventually(w.t, func() bool {
		raw = w.stored(database, id)
		return raw != nil
	}, testTimeout, 5*time.Millisecond, "no result of %s", id)
	return parse(w.t, raw)
}

// stored returns a stored result, nil if there is none.
func (w *world) stored(database, id string) []byte {
	s, err := w.js.Stream(context.Background(), "DBRUNNER_RESULTS_"+database)
	if err != nil {
		return nil
	}
	m, err := s.GetLastMsgForSubject(context.Background(), "dbrunner.results."+database+"."+id)
	if err != nil {
		return nil
	}
	return m.Data
}

// natsMsg is a message without a body, with headers.
func natsMsg(subject string, headers ...string) *nats.Msg {
	m := nats.NewMsg(subject)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	return m
}

// inbox subscribes to a reply subject.
func (w *world) inbox() (string, *nats.Subscription) {
	w.t.Helper()
	subject := w.nc.NewInbox()
	sub, err := w.nc.SubscribeSync(subject)
	require.NoError(w.t, err)
	return subject, sub
}

func (w *world) next(sub *nats.Subscription) *result {
	w.t.Helper()
	m, err := sub.NextMsg(testTimeout)
	require.NoError(w.t, err)
	return parse(w.t, m.Data)
}

// heartbeat is what tests look at in a runner's heartbeat.
type heartbeat struct {
	Instance  string  `json:"instance"`
	Process   string  `json:"process"`
	Shared    bool    `json:"instance_shared"`
	Build     string  `json:"build"`
	State     string  `json:"state"`
	Uptime    float64 `json:"uptime_seconds"`
	Databases []struct {
		Name    string `json:"name"`
		Engine  string `json:"engine"`
		State   string `json:"state"`
		Reason  string `json:"reason"`
		Verdict string `json:"verdict"`
		Lanes   []struct {
			Name  string           `json:"name"`
			Slots int              `json:"slots"`
			InUse int              `json:"slots_in_use"`
			Jobs  map[string]int64 `json:"jobs"`
			Lag   *struct {
				Waiting int `json:"waiting"`
				Held    int `json:"held"`
			} `json:"lag"`
		} `json:"lanes"`
		Results *struct {
			Kept int `json:"kept"`
			Room int `json:"room"`
		} `json:"results"`
	} `json:"databases"`
}

// awaitHeartbeat waits for a heartbeat of a runner that matches.
func (w *world) awaitHeartbeat(instance string, wanted func(*heartbeat) bool) *heartbeat {
	w.t.Helper()
	return awaitLast(w, "dbrunner.health.runner."+instance, wanted)
}

// awaitLast waits until the last message on a subject of the health stream is as wanted.
func awaitLast[T any](w *world, subject string, wanted func(*T) bool) *T {
	w.t.Helper()
	var last T
	var raw []byte
	ok := assert.Eventually(w.t, func() bool {
		s, err := w.js.Stream(context.Background(), "DBRUNNER_HEALTH")
		if err != nil {
			return false
		}
		m, err := s.GetLastMsgForSubject(context.Background(), subject)
		if err != nil {
			return false
		}
		if what := strings.Split(subject, ".")[2]; what != "migration" {
			requireSchema(w.t, "heartbeat-"+what, m.Data)
		}
		var read T
		last, raw = read, m.Data
		return json.Unmarshal(m.Data, &last) == nil && wanted(&last)
	}, testTimeout, 20*time.Millisecond, "no such heartbeat")
	if !ok {
		require.FailNow(w.t, "the last one", "%s", raw)
	}
	return &last
}

// waiting returns how many messages are left in a database's queue.
func (w *world) waiting(database string) int {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), "DBRUNNER_JOBS_"+database)
	require.NoError(w.t, err)
	return int(s.CachedInfo().State.Msgs)
}

// awaitHeld waits until the runners hold n messages of a database.
func (w *world) awaitHeld(database string, n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		c, err := w.js.Consumer(context.Background(), "DBRUNNER_JOBS_"+database, "work")
		return err == nil && c.CachedInfo().NumAckPending == n
	}, testTimeout, 5*time.Millisecond, "not %d jobs held", n)
}

// awaitSleeper waits until a job sleeps in the server: it was started. The question goes through another entry
// of the same database.
func (w *world) awaitSleeper(database string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		got := w.do(database, "query", "sleeper-"+rand.Text(), `"row_format":"arrays","sql":"SELECT pid FROM pg_stat_activity `+
			`WHERE datname = current_database() AND state = 'active' AND query LIKE '%FROM pg_sleep(%' AND pid <> pg_backend_pid()"`)
		return got.RowCount == 1
	}, testTimeout, 10*time.Millisecond, "no job sleeps")
}
