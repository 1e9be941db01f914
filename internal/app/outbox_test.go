package app_test

import (
	"database/sql"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// source is a database with an outbox, as its callers see it.
type source struct {
	t       testing.TB
	caller  *sql.DB
	table   string
	past    string // 30 hours ago
	lock    string // takes the whole table, and gives it back
	runners func(*config.Config)
}

// outboxes are sources named a whose rows may go to database b.
func outboxes() map[string]func(t *testing.T) *source {
	return map[string]func(t *testing.T) *source{"postgres": func(t *testing.T) *source { return postgresSource(t) }, "sqlite": sqliteSource, "sqlserver": sqlserverSource}
}

var targetsOfA = []string{"jobs.b.transaction", "jobs.b.query"}

func postgresSource(t testing.TB) *source {
	t.Helper()
	dsn := dbtest.Postgres(t)
	ddl, err := manager.OutboxDDL("postgres")
	require.NoError(t, err)
	s := &source{
		t: t, caller: callerOf(t, "pgx", dsn), table: "dbrunner.outbox", past: "now() - interval '30 hours'",
		lock: "BEGIN; SET LOCAL lock_timeout = '20s'; LOCK TABLE dbrunner.outbox IN SHARE ROW EXCLUSIVE MODE; COMMIT",
	}
	s.exec(ddl)
	s.runners = withDatabase("a", "postgres", dsn, func(d *config.Database) {
		d.Outbox = config.Outbox{ConnectionString: config.NewSecret(dsn), Targets: targetsOfA}
	})
	return s
}

func sqlserverSource(t *testing.T) *source {
	t.Helper()
	dsn := dbtest.SQLServer(t)
	ddl, err := manager.OutboxDDL("sqlserver")
	require.NoError(t, err)
	s := &source{
		t: t, caller: callerOf(t, "sqlserver", dsn), table: "dbrunner.outbox", past: "DATEADD(hour, -30, SYSUTCDATETIME())",
		lock: "SET LOCK_TIMEOUT 20000; BEGIN TRANSACTION; ALTER TABLE dbrunner.outbox ADD probe int; ROLLBACK TRANSACTION",
	}
	for batch := range strings.SplitSeq(ddl, "\nGO\n") {
		if strings.TrimSpace(batch) != "" {
			s.exec(batch)
		}
	}
	s.runners = withDatabase("a", "sqlserver", dsn, func(d *config.Database) {
		onTestServer(d)
		d.Outbox = config.Outbox{ConnectionString: config.NewSecret(dsn), Targets: targetsOfA}
	})
	return s
}

func sqliteSource(t *testing.T) *source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	s := &source{
		t: t, caller: callerOf(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(60000)&_txlock=immediate"), table: "dbrunner_outbox",
		past: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - 108000000", lock: "BEGIN EXCLUSIVE; ROLLBACK",
	}
	s.runners = withDatabase("a", "sqlite", path, func(d *config.Database) { d.Outbox.Targets = targetsOfA })
	return s
}

func callerOf(t testing.TB, driver, connection string) *sql.DB {
	t.Helper()
	caller, err := sql.Open(driver, connection)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, caller.Close()) })
	return caller
}

func (s *source) exec(text string) {
	s.t.Helper()
	_, err := s.caller.ExecContext(s.t.Context(), strings.ReplaceAll(text, "OUTBOX", s.table))
	require.NoError(s.t, err)
}

// ready waits for the table, which a runner creates on SQLite.
func (s *source) ready() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		_, err := s.caller.ExecContext(s.t.Context(), "DELETE FROM "+s.table+" WHERE id = ''")
		return err == nil
	}, testTimeout, 20*time.Millisecond)
}

// insert inserts a row in a transaction of its own.
func (s *source) insert(id, target, body string) {
	s.t.Helper()
	s.exec(fmt.Sprintf(`INSERT INTO OUTBOX (id, target, body) VALUES ('%s', '%s', '%s')`, id, target, strings.ReplaceAll(body, "'", "''")))
}

func (s *source) rows() int {
	s.t.Helper()
	var n int
	require.NoError(s.t, s.caller.QueryRowContext(s.t.Context(), "SELECT count(*) FROM "+s.table+" WHERE error IS NULL").Scan(&n))
	return n
}

func (s *source) emptied() {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.rows() == 0 }, testTimeout, 20*time.Millisecond, "rows are left")
}

func (s *source) errorOf(id string) (text string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var read sql.NullString
		err := s.caller.QueryRowContext(s.t.Context(), "SELECT error FROM "+s.table+" WHERE id = '"+id+"'").Scan(&read)
		text = read.String
		return err == nil && read.Valid
	}, testTimeout, 20*time.Millisecond, "no error of %s", id)
	return text
}

func insertEffect(name string) string {
	return fmt.Sprintf(`{"statements":[{"sql":"INSERT INTO effects (name) VALUES (:name)","params":{"name":%q}}]}`, name)
}

// withEffects creates the table of effects in database b.
func (w *world) withEffects() {
	w.t.Helper()
	require.Equal(w.t, "succeeded", w.do("b", "transaction", "create", `"statements":[{"sql":"CREATE TABLE effects (name TEXT NOT NULL)"}]`).Status)
}

func (w *world) effects(id string) any {
	w.t.Helper()
	return w.do("b", "query", id, `"sql":"SELECT name, count(*) AS n FROM effects GROUP BY name ORDER BY name","row_format":"arrays"`).Rows
}

// TestOutboxCommitAndRollback: a row of a transaction that commits has one effect, and one of a transaction that rolls back none.
// Rows that can never be published stay with their error and delay no other row.
func TestOutboxCommitAndRollback(t *testing.T) {
	t.Parallel()
	for engine, open := range outboxes() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			w, s := setup(t), open(t)
			r := w.start(w.config("r1", s.runners, withSQLite(t, "b"), func(c *config.Config) { c.HTTP.Address = "127.0.0.1:0" }))
			w.withEffects()
			s.ready()
			for i, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
				tx, err := s.caller.BeginTx(t.Context(), nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO %s (id, target, body) VALUES ('tx%d', 'jobs.b.transaction', '%s')`,
					s.table, i, insertEffect(fmt.Sprintf("effect%d", i))))
				require.NoError(t, err)
				require.NoError(t, end(tx))
			}
			require.Equal(t, "succeeded", w.await("b", "tx0").Status)
			s.insert("unknown", "jobs.c.transaction", `{}`)
			s.insert("has id", "jobs.b.transaction", `{}`)
			s.insert("notJSON", "jobs.b.transaction", `{`)
			s.insert("doubleID", "jobs.b.transaction", `{"id":"x"}`)
			s.insert("tooLarge", "jobs.b.transaction", `{"labels":{"x":"`+strings.Repeat("y", 2<<20)+`"}}`)
			s.exec(`INSERT INTO OUTBOX (id, target, body, created_at) VALUES ('old', 'jobs.b.transaction', '` + insertEffect("old") + `', ` + s.past + `)`)
			s.insert("tx0", "jobs.b.transaction", insertEffect("of another request"))
			s.insert("last", "jobs.b.transaction", insertEffect("last"))
			require.Equal(t, "succeeded", w.await("b", "last").Status)
			s.emptied()
			require.Equal(t, []any{[]any{"effect0", 1.0}, []any{"last", 1.0}}, w.effects("count"))
			for id, want := range map[string]string{
				"unknown": "target_not_configured: ", "has id": "invalid_id: ", "notJSON": "invalid_body: ", "doubleID": "invalid_body: the body has an id",
				"tooLarge": "too_large: ", "old": "too_old: the row is older than 24h0m0s, half of what the ledger of b keeps",
			} {
				require.Contains(t, s.errorOf(id), want)
			}
			requireDeadLetters(t, w, map[string]string{"tx0": "job_id_reused"})
			w.awaitPaused("a", "r1", func(h *contract.DatabaseHeartbeat) bool { // a server under load is degraded for other reasons, too
				return h.Outbox != nil && h.Outbox.Failed != nil && *h.Outbox.Failed == 6 && *h.Outbox.Waiting == 0 && h.Health != nil && h.Verdict == contract.Degraded &&
					strings.Contains(strings.Join(h.Reasons, ""), "jobs: outbox: 6 rows have an error; runner outbox ls a shows them")
			})
			_, text := r.get(t, "/metrics")
			require.Contains(t, text, `dbrunner_outbox_failed{database="a"} 6`)
			require.Contains(t, text, `dbrunner_outbox_relayed_total{database="a"} 3`)
			r.end(t)
		})
	}
}

// eachOutbox runs a test with a source of each engine.
func eachOutbox(t *testing.T, test func(t *testing.T, w *world, s *source)) {
	t.Helper()
	for engine, open := range outboxes() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			test(t, setup(t), s)
		})
	}
}

// TestPausesAndOutboxes: a paused source relays nothing, and a paused target loses nothing.
func TestPausesAndOutboxes(t *testing.T) {
	t.Parallel()
	eachOutbox(t, func(t *testing.T, w *world, s *source) {
		w.start(w.config("r1", s.runners, withSQLite(t, "b")))
		w.withEffects()
		s.ready()
		w.pause("a", "r1")
		s.insert("j1", "jobs.b.transaction", insertEffect("e1"))
		w.pause("b", "r1")
		require.Equal(t, 1, s.rows())
		require.Zero(t, w.waiting("b"), "a paused source publishes nothing")
		w.resume("a")
		s.emptied()
		require.Nil(t, w.stored("b", "j1"))
		require.Equal(t, 1, w.waiting("b"), "a paused target has the job in its stream")
		w.resume("b")
		require.Equal(t, "succeeded", w.await("b", "j1").Status)
		require.Equal(t, []any{[]any{"e1", 1.0}}, w.effects("count"))
	})
}

// TestOutboxWaitsForTheTargetsRunners: what their ledger keeps is not known before one has answered.
func TestOutboxWaitsForTheTargetsRunners(t *testing.T) {
	t.Parallel()
	w, s := setup(t), sqliteSource(t)
	r := w.start(w.config("r1", s.runners))
	s.ready()
	s.insert("j1", "jobs.b.transaction", insertEffect("e1"))
	w.awaitPaused("a", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return h.Outbox != nil && strings.Contains(h.Outbox.Trouble, "rows for database b wait: no runner of it has answered yet (it has no runner)")
	})
	require.Equal(t, 1, s.rows())
	b := withSQLite(t, "b")
	r.end(t)
	other := w.start(w.config("r2", b))
	w.withEffects()
	w.start(w.config("r3", s.runners))
	require.Equal(t, "succeeded", w.await("b", "j1").Status)
	s.emptied()
	other.end(t)
	s.insert("j2", "jobs.b.transaction", insertEffect("e2"))
	s.emptied() // what is known stays known: the job is in the stream when there are runners again
	w.start(w.config("r4", b))
	require.Equal(t, "succeeded", w.await("b", "j2").Status)
	require.Equal(t, []any{[]any{"e1", 1.0}, []any{"e2", 1.0}}, w.effects("count"))
}

var outage = flag.Duration("outage", 0, "how long NATS is away at least in TestOutboxBehindAnOutageOfNATS")

// TestOutboxBehindAnOutageOfNATS holds no lock while NATS is away, and catches up.
func TestOutboxBehindAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	eachOutbox(t, func(t *testing.T, w *world, s *source) {
		w.start(w.config("r1", s.runners, withSQLite(t, "b")))
		w.withEffects()
		s.ready()
		s.insert("before", "jobs.b.transaction", insertEffect("before"))
		require.Equal(t, "succeeded", w.await("b", "before").Status)
		s.emptied()
		w.node.Stop()
		const rows = 50
		for i := range rows {
			s.insert(fmt.Sprintf("j%d", i), "jobs.b.transaction", insertEffect("during"))
		}
		over := time.Now().Add(*outage)
		for i := 0; i < 100 || time.Now().Before(over); i++ { // the relay sees rows and an outage of seconds
			s.exec(s.lock)
		}
		require.Equal(t, rows, s.rows())
		w.node.Start()
		for i := range rows {
			require.Equal(t, "succeeded", w.await("b", fmt.Sprintf("j%d", i)).Status)
		}
		s.emptied()
		require.Equal(t, []any{[]any{"before", 1.0}, []any{"during", float64(rows)}}, w.effects("count"))
	})
}

// TestCheckOfAnOutbox: a login of jobs that may write to the table, a missing table and missing permissions are found.
func TestCheckOfAnOutbox(t *testing.T) {
	t.Parallel()
	for engine, open := range outboxes() {
		if engine == "sqlite" {
			continue // it has no logins, and the runner creates the table
		}
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s, w := open(t), guarded(t)
			found := checked(t, w.signedIn("r1", "runner", s.runners, withSQLite(t, "b")))
			require.Contains(t, found, "outbox ok the table exists; 0 rows wait")
			require.Contains(t, found, "outbox warning the login of jobs may write to the outbox")
			for _, subject := range []string{"publish dbrunner.jobs.b.transaction", "publish dbrunner.jobs.b.query", "subscribe dbrunner.replies.b.outbox.dbrunner-check"} {
				require.Contains(t, found, "rights fault the server refuses to "+subject)
			}
			s.exec("DROP TABLE OUTBOX")
			require.Contains(t, checked(t, w.signedIn("r1", "runner", s.runners, withSQLite(t, "b"))), "outbox fault the outbox (table dbrunner.outbox) is missing or wrong: create it")
		})
	}
}

// checked is what check --connect finds, a line each.
func checked(t *testing.T, cfg *config.Config) string {
	t.Helper()
	var text strings.Builder
	for _, f := range findings(t, cfg) {
		_, _ = fmt.Fprintln(&text, f.Part, f.Grade, f.Text)
	}
	return text.String()
}

// BenchmarkOutbox relays rows on one connection. The target is paused, so that its jobs take no CPU.
func BenchmarkOutbox(b *testing.B) {
	const rows = 20_000
	node := bustest.Server(b)
	nc, js := bustest.Plain(b, node.ClientURL())
	w := &world{t: b, node: node, nc: nc, js: js}
	s := postgresSource(b)
	w.start(w.config("r1", s.runners, withDatabase("b", "sqlite", filepath.Join(b.TempDir(), "b.db"))))
	w.pause("b", "r1")
	for b.Loop() {
		b.StopTimer()
		s.exec(fmt.Sprintf(`INSERT INTO OUTBOX (id, target, body) SELECT 'job-' || gen_random_uuid(), 'jobs.b.query', '{"sql":"SELECT 1 AS n"}' FROM generate_series(1, %d)`, rows))
		b.StartTimer()
		s.emptied()
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
