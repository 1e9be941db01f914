package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// cancellation is the answer to a request to cancel.
type cancellation struct {
	Database  string     `json:"database"`
	JobID     string     `json:"job_id"`
	Outcome   string     `json:"outcome"`
	Status    string     `json:"status"`
	KeptUntil *time.Time `json:"kept_until"`
}

func (w *world) cancel(t *testing.T, database, id, wait string) cancellation {
	t.Helper()
	var c cancellation
	w.request("cancel."+database+"."+id, "", "Dbrunner-Wait", wait, "Dbrunner-Requested-By", "the operator\x01").into(t, &c)
	require.Equal(t, database, c.Database)
	require.Equal(t, id, c.JobID)
	return c
}

// sleeping is a transaction that writes and then sleeps in the server.
func sleeping(effect string) string {
	return fmt.Sprintf(`"effect":%q,"timeout":"1m","statements":[{"sql":"INSERT INTO effects (name) VALUES ('x')"},{"sql":"SELECT 1 AS n FROM pg_sleep(60)"}]`, effect)
}

const createEffects = `"statements":[{"sql":"CREATE TABLE effects (name TEXT)"}]`

const countEffects = `"row_format":"arrays","sql":"SELECT count(*)::int FROM effects"`

// TestCancelStopsWhatRuns on another runner than the one that takes the request, perhaps: two serve the database.
func TestCancelStopsWhatRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	for _, name := range []string{"r1", "r2"} {
		w.start(w.config(name, withDatabase("shop", "postgres", dsn), withDatabase("watch", "postgres", dsn)))
	}
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createEffects).Status)
	jobs := map[string]struct{ kind, body string }{
		"read":  {"query", `"timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"`},
		"once":  {"transaction", sleeping("exactly_once")},
		"least": {"transaction", sleeping("at_least_once")},
	}
	for id, job := range jobs {
		w.publish("shop", job.kind, fmt.Sprintf(`{"id":%q,%s}`, id, job.body))
		w.awaitSleeper("watch")
		started := time.Now()
		got := w.cancel(t, "shop", id, "20s")
		require.Equal(t, "cancelled", got.Outcome, id)
		require.Equal(t, "cancelled", got.Status)
		require.Less(t, time.Since(started), 15*time.Second)
		result := w.await("shop", id)
		require.Equal(t, "cancelled", result.Status)
		require.Equal(t, "cancelled", result.Error.Code)
		require.Equal(t, 1, result.Deliveries, "it is not requeued")
		require.Equal(t, []any{[]any{0.0}}, w.do("watch", "query", "none-"+id, countEffects).Rows, "the statement is stopped and rolled back")
		require.Equal(t, "cancelled", w.cancel(t, "shop", id, "1s").Outcome, "asking again returns the same")
	}
	asked := 0
	require.Eventually(t, func() bool {
		asked++
		sleepers := w.do("watch", "query", fmt.Sprint("idle", asked), `"row_format":"arrays","sql":"SELECT count(*)::int FROM pg_stat_activity `+
			`WHERE datname = current_database() AND state = 'active' AND query LIKE '%FROM pg_sleep(%' AND pid <> pg_backend_pid()"`)
		return fmt.Sprint(sleepers.Rows) == "[[0]]"
	}, testTimeout, 50*time.Millisecond, "a statement goes on in the server")
}

// TestCancelOfStatements: outside of a transaction nothing is taken back. What at_most_once knows by the server's word it
// says; at_least_once does not know what stays.
func TestCancelOfStatements(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dsn), withDatabase("watch", "postgres", dsn)))
	for effect, want := range map[string]string{"at_most_once": "cancelled", "at_least_once": "unknown"} {
		w.publish("shop", "statement", fmt.Sprintf(`{"id":%q,"timeout":"1m","effect":%q,"sql":"SELECT 1 AS n FROM pg_sleep(60)"}`, effect, effect))
		w.awaitSleeper("watch")
		w.cancel(t, "shop", effect, "20s")
		result := w.await("shop", effect)
		require.Equal(t, want, result.Status, effect)
		require.Equal(t, 1, result.Deliveries, "it is not requeued")
	}
	w.publish("shop", "statement", `{"id":"again","timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"}`)
	w.awaitSleeper("watch")
	w.cancel(t, "shop", "again", "20s")
	inbox, sub := w.inbox()
	w.publish("shop", "statement", fmt.Sprintf(`{"id":"again","reply_to":%q,"timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"}`, inbox))
	require.Equal(t, "cancelled", w.next(sub).Status, "its end is on record")
}

func TestCancelOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "query", "ok", `"sql":"SELECT 1 AS n"`)
	w.do("shop", "query", "bad", `"sql":"SELECT * FROM nosuch"`)
	require.Equal(t, cancellation{Database: "shop", JobID: "ok", Outcome: "already_finished", Status: "succeeded"}, w.cancel(t, "shop", "ok", "1s"))
	require.Equal(t, cancellation{Database: "shop", JobID: "bad", Outcome: "already_finished", Status: "failed"}, w.cancel(t, "shop", "bad", "1s"))
	w.request("cancel.shop.ok", "no body").refused(t, "400", "invalid_body")
	w.request("cancel.shop.ok", "", "Dbrunner-Wait", "x").refused(t, "400", "invalid_header")
	kv, err := w.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	_, err = kv.Get(t.Context(), "shop.ok")
	require.ErrorIs(t, err, jetstream.ErrKeyNotFound, "nothing is kept for a job that has ended")
}

// TestCancelOfWhatNeverWas is kept for a stated time, and is not for a job that is published afterwards.
func TestCancelOfWhatNeverWas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	got := w.cancel(t, "shop", "later", "50ms")
	require.Equal(t, "requested", got.Outcome)
	require.Empty(t, got.Status)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), *got.KeptUntil, time.Minute)
	require.Equal(t, "succeeded", w.do("shop", "query", "later", `"sql":"SELECT 1 AS n"`).Status, "it was stored after the request")

	kv, err := w.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	entry, err := kv.Get(t.Context(), "shop.later")
	require.NoError(t, err)
	require.Contains(t, string(entry.Value()), `"by":"the operator"`)
	status, err := kv.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, status.TTL())
}

// TestCancelOfQueuedJobs while no runner is up: all of them, of every effect, finish when a runner starts.
func TestCancelOfQueuedJobs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "shop.db")
	cfg := func(name string) *config.Config { return w.config(name, withDatabase("shop", "sqlite", file)) }
	first := w.start(cfg("r1"))
	w.do("shop", "transaction", "create", createEffects)
	first.end(t)

	effect := `"effect":"%s","statements":[{"sql":"INSERT INTO effects (name) VALUES ('x')"}]`
	w.publish("shop", "query", `{"id":"read","sql":"SELECT 1 AS n"}`)
	w.publish("shop", "transaction", `{"id":"once",`+fmt.Sprintf(effect, "exactly_once")+`}`)
	w.publish("shop", "transaction", `{"id":"least",`+fmt.Sprintf(effect, "at_least_once")+`}`)
	w.publish("shop", "transaction", `{"id":"stays",`+fmt.Sprintf(effect, "exactly_once")+`}`)
	kv, err := w.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	for _, id := range []string{"read", "once", "least", "stays"} { // as a runner with another database could have done
		_, err = kv.Put(t.Context(), "shop."+id, []byte(`{}`))
		require.NoError(t, err)
	}
	require.NoError(t, kv.Delete(t.Context(), "shop.stays")) // a request may be taken back

	w.start(cfg("r2"))
	for _, id := range []string{"read", "once", "least"} {
		require.Equal(t, "cancelled", w.await("shop", id).Status, id)
	}
	require.Equal(t, "succeeded", w.await("shop", "stays").Status)
	require.Equal(t, []any{[]any{1.0}}, w.do("shop", "query", "count", `"row_format":"arrays","sql":"SELECT count(*) FROM effects"`).Rows)
	again := w.do("shop", "transaction", "again", fmt.Sprintf(effect, "exactly_once"))
	require.Equal(t, "succeeded", again.Status)

	inbox, sub := w.inbox()
	w.publish("shop", "transaction", fmt.Sprintf(`{"id":"once","reply_to":%q,%s}`, inbox, fmt.Sprintf(effect, "exactly_once")))
	require.Equal(t, "cancelled", w.next(sub).Status, "a duplicate of a cancelled job gets its end, by its ledger row")
}

// TestCancelWaitsForADatabaseThatIsDown: whether the effect is there cannot be known before it answers.
func TestCancelWaitsForADatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	server := dbtest.StartPostgres(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", server.Database(t)), func(cfg *config.Config) { cfg.Worker.UnreachableGrace = time.Hour }))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createEffects).Status)
	server.Stop(t, dbtest.StopFast)
	w.publish("shop", "transaction", `{"id":"once","statements":[{"sql":"INSERT INTO effects (name) VALUES ('x')"}]}`)
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.Databases[0].State == "down" })
	require.Equal(t, "requested", w.cancel(t, "shop", "once", "300ms").Outcome)
	require.Nil(t, w.stored("shop", "once"))
	server.Start(t)
	require.Equal(t, "cancelled", w.await("shop", "once").Status)
	require.Equal(t, []any{[]any{0.0}}, w.do("shop", "query", "count", countEffects).Rows)
}

// TestCancelOutlivesRestarts of runner and NATS server: a job that is redelivered later stays cancelled.
func TestCancelOutlivesRestarts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	folder := filepath.Join(t.TempDir(), "later")
	database := func() func(*config.Config) {
		return withDatabase("shop", "sqlite", filepath.Join(folder, "shop.db"), func(d *config.Database) { d.DeadLetters = []string{} })
	}
	first := w.start(w.config("r1", database(), withSQLite(t, "audit")))
	w.publish("shop", "transaction", `{"id":"once","statements":[{"sql":"CREATE TABLE effects (name TEXT)"}]}`)
	require.Equal(t, "requested", w.cancel(t, "shop", "once", "50ms").Outcome)
	w.node.Restart()
	w.do("audit", "query", "back", `"sql":"SELECT 1 AS n"`)
	first.end(t)

	require.NoError(t, os.Mkdir(folder, 0o700))
	w.start(w.config("r2", database()))
	require.Equal(t, "cancelled", w.await("shop", "once").Status)
	require.Equal(t, "failed", w.do("shop", "query", "look", `"sql":"SELECT * FROM effects"`).Status, "there is no such table")
}

// TestCancelOfAMigration reports what stays: its first file was committed when it was stopped in the second.
func TestCancelOfAMigration(t *testing.T) {
	t.Parallel()
	w := setup(t)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"V1__first.sql":  "CREATE TABLE first (n INTEGER);",
		"V2__second.sql": "CREATE TABLE second (n INTEGER); SELECT 1 FROM pg_sleep(60);",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	dsn := dbtest.Postgres(t)
	w.start(w.config("r1", withDatabase("watch", "postgres", dsn), withDatabase("shop", "postgres", dsn, func(d *config.Database) {
		d.Migrations.Folder = folder
	})))
	w.publish("shop", "migration", `{"id":"up","action":"up"}`)
	w.awaitSleeper("watch")
	stopped := w.cancel(t, "shop", "up", "20s")
	require.Equal(t, "already_finished", stopped.Outcome, "%s", w.stored("shop", "up"))
	require.Equal(t, "unknown", stopped.Status)
	var reported struct {
		After string `json:"version_after"`
		Dirty bool   `json:"dirty"`
	}
	require.NoError(t, json.Unmarshal(w.stored("shop", "up"), &reported), "%s", w.stored("shop", "up"))
	require.Equal(t, "1", reported.After, "%s", w.stored("shop", "up"))
	require.False(t, reported.Dirty)
	require.Equal(t, "outcome_unknown", w.await("shop", "up").Error.Code)
	require.Equal(t, "succeeded", w.do("watch", "query", "first", `"sql":"SELECT * FROM first"`).Status)
	require.Equal(t, "failed", w.do("watch", "query", "second", `"sql":"SELECT * FROM second"`).Status)
}
