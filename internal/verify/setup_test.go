package verify_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
	"dbrunner/internal/verify"
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

// engine is a database to test with: its connection string, and how its ledger is written to.
type engine struct {
	name   string
	create func(t *testing.T) (connection string, db *sql.DB)
	table  string
	key    string // of a placeholder
}

func engines() []engine {
	all := []engine{
		{name: "postgres", table: "dbrunner.ledger", key: "$", create: func(t *testing.T) (string, *sql.DB) {
			t.Helper()
			connection := dbtest.Postgres(t)
			cfg, err := pgx.ParseConfig(connection)
			require.NoError(t, err)
			return connection, stdlib.OpenDB(*cfg)
		}},
		{name: "sqlite", table: "dbrunner_ledger", key: "?", create: func(t *testing.T) (string, *sql.DB) {
			t.Helper()
			file := filepath.Join(t.TempDir(), "the shop.db")
			db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(20000)")
			require.NoError(t, err)
			return file, db
		}},
	}
	if connection := os.Getenv("RUNNER_TEST_SQLSERVER_URL"); connection != "" {
		all = append(all, engine{name: "sqlserver", table: "dbrunner.ledger", key: "@p", create: func(t *testing.T) (string, *sql.DB) {
			t.Helper()
			connection := dbtest.SQLServer(t)
			db, err := sql.Open("sqlserver", connection)
			require.NoError(t, err)
			return connection, db
		}})
	}
	return all
}

// eachEngine runs a test with a runner of each engine.
func eachEngine(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, e))
		})
	}
}

// world is a runner of the database shop, at a NATS server.
type world struct {
	t          *testing.T
	engine     engine
	connection string
	db         *sql.DB
	nc         *nats.Conn
	js         jetstream.JetStream
	cfg        *config.Config
	stop       func()
}

func newWorld(t *testing.T, e engine) *world {
	t.Helper()
	node := bustest.Server(t)
	w := &world{t: t, engine: e}
	w.connection, w.db = e.create(t)
	t.Cleanup(func() { require.NoError(t, w.db.Close()) })
	w.nc, w.js = bustest.Plain(t, node.ClientURL())
	w.cfg = config.Default()
	w.cfg.Instance = "r1"
	w.cfg.NATS.URLs = []string{node.ClientURL()}
	d := w.cfg.Defaults.NewDatabase(e.name, config.NewSecret(w.connection))
	d.Pool.Min, d.Pool.Max = 1, 4
	if e.name == "sqlserver" {
		d.Settings = map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"}
	}
	w.cfg.Databases["shop"] = d
	require.NoError(t, w.cfg.Complete(manager.Words()))
	w.start()
	w.must("transaction", "create", `"statements":[{"sql":"CREATE TABLE effects (n INTEGER)"}]`)
	return w
}

// start starts the runner and waits until its lanes run.
func (w *world) start() {
	w.t.Helper()
	a, err := app.New(app.Options{Config: w.cfg, Logger: zap.NewNop(), Version: "test"})
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if cancel(); !stopped {
			stopped = true
			require.NoError(w.t, <-done)
		}
	}
	w.t.Cleanup(w.stop)
	select {
	case <-a.Started():
	case <-time.After(testTimeout):
		require.FailNow(w.t, "the runner does not start")
	}
}

// result is what tests read of a result.
type result struct {
	JobID    string    `json:"job_id"`
	Status   string    `json:"status"`
	Sequence uint64    `json:"sequence"`
	QueuedAt time.Time `json:"queued_at"`
	body     []byte
	seq      uint64 // in the results stream
}

func (r *result) derived() string {
	return fmt.Sprintf("s%d_%s", r.Sequence, strings.ToLower(formatBase36(r.QueuedAt.UnixNano())))
}

func formatBase36(n int64) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	text := ""
	for ; n > 0; n /= 36 {
		text = string(digits[n%36]) + text
	}
	return text
}

// publish publishes a job with an id and further members.
func (w *world) publish(kind, id, members string) uint64 {
	w.t.Helper()
	ack, err := w.js.Publish(w.t.Context(), "dbrunner.jobs.shop."+kind, fmt.Appendf(nil, `{"id":%q,%s}`, id, members))
	require.NoError(w.t, err)
	return ack.Sequence
}

// await waits for the stored result of an id.
func (w *world) await(id string) *result {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(w.t, err)
	r := &result{}
	require.Eventually(w.t, func() bool {
		m, err := stream.GetLastMsgForSubject(w.t.Context(), "dbrunner.results.shop."+id)
		if err != nil {
			return false
		}
		r.body, r.seq = m.Data, m.Sequence
		return json.Unmarshal(m.Data, r) == nil
	}, testTimeout, 5*time.Millisecond, "no result of %s", id)
	return r
}

// do runs a job to its result.
func (w *world) do(kind, id, members string) *result {
	w.t.Helper()
	w.publish(kind, id, members)
	return w.await(id)
}

// must is do for a job that has to succeed.
func (w *world) must(kind, id, members string) *result {
	w.t.Helper()
	r := w.do(kind, id, members)
	require.Equal(w.t, "succeeded", r.Status, "%s", r.body)
	return r
}

const insert = `"statements":[{"sql":"INSERT INTO effects VALUES (1)"}]`

// pay runs a transaction.
func (w *world) pay(id string) *result {
	w.t.Helper()
	return w.must("transaction", id, insert)
}

// settled waits until the jobs stream is empty.
func (w *world) settled() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		s, err := w.js.Stream(w.t.Context(), "DBRUNNER_JOBS_shop")
		return err == nil && s.CachedInfo().State.Msgs == 0
	}, testTimeout, 5*time.Millisecond)
}

// edit changes the ledger by hand: an UPDATE or DELETE of one row.
func (w *world) edit(statement, id string, args ...any) {
	w.t.Helper()
	statement = strings.ReplaceAll(statement, "ledger", w.engine.table) + " WHERE job_id = " + w.engine.key + "1"
	res, err := w.db.ExecContext(w.t.Context(), strings.ReplaceAll(statement, "?", w.engine.key), append([]any{id}, args...)...)
	require.NoError(w.t, err)
	n, err := res.RowsAffected()
	require.NoError(w.t, err)
	require.EqualValues(w.t, 1, n)
}

// forge stores a result as a runner would.
func (w *world) forge(id string, body []byte) {
	w.t.Helper()
	_, err := w.js.Publish(w.t.Context(), "dbrunner.store.shop."+id, body)
	require.NoError(w.t, err)
}

// altered is a result with other members.
func (r *result) altered(t *testing.T, change map[string]any) []byte {
	t.Helper()
	var all map[string]any
	require.NoError(t, json.Unmarshal(r.body, &all))
	for key, value := range change {
		all[key] = value
	}
	body, err := json.Marshal(all)
	require.NoError(t, err)
	return body
}

// remove removes a message of a stream by hand.
func (w *world) remove(stream string, sequence uint64) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	require.NoError(w.t, err)
	require.NoError(w.t, s.DeleteMsg(w.t.Context(), sequence))
}

// verify runs the judge.
func (w *world) verify(change ...func(*verify.Options)) *verify.Report {
	w.t.Helper()
	d := w.cfg.Databases["shop"]
	ledger, err := verify.OpenLedger(d.Type, d.ConnectionString.Current(), "dbrunner", "shop")
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, ledger.Close()) }()
	opts := verify.Options{
		NATS: w.nc, Namespace: "dbrunner", Database: "shop", Ledger: ledger, Retention: d.Ledger.Retention, DeadLetters: d.DeadLetters,
		Pause: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&opts)
	}
	report, err := verify.Run(w.t.Context(), opts)
	require.NoError(w.t, err)
	return report
}

// requireFound checks that exactly these findings are reported: each a kind and a job's id.
func requireFound(t *testing.T, report *verify.Report, want ...string) {
	t.Helper()
	have, texts := []string{}, []string{}
	for _, f := range report.Findings {
		have = append(have, string(f.Kind)+" "+f.JobID)
		texts = append(texts, string(f.Kind)+": "+f.Text)
		require.NotEmpty(t, f.Meaning)
		require.NotEmpty(t, f.Look)
	}
	require.ElementsMatch(t, want, have, strings.Join(texts, "\n"))
}
