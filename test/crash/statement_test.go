package crash

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// statement is a job of kind statement, executed at most once.
func statement(id, sql string) string {
	return fmt.Sprintf(`{"id":%q,"timeout":"1m","sql":%q}`, id, sql)
}

// commits is a statement whose effect is committed before it has run to its end.
func commits(name string, seconds float64) string {
	return fmt.Sprintf(`DO $$ BEGIN INSERT INTO effects (name) VALUES ('%s'); COMMIT; PERFORM pg_sleep(%g); END $$`, name, seconds)
}

// Whatever dies on the way of a statement, it is not executed again: the job ends as is on record, or unknown.
func TestStatementKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]struct {
		status  string
		effects int
	}{
		"after_started":   {"unknown", 0},
		"after_statement": {"unknown", 1},
		"after_commit":    {"succeeded", 1},
		"before_store":    {"succeeded", 1},
		"after_store":     {"succeeded", 1},
		"after_ack":       {"succeeded", 1},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			seen := w.startWatching()
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("statement", statement("a1", `INSERT INTO effects (name) VALUES ('a')`))
			first.died()
			w.start("second")
			got := w.stored("a1")
			require.Equal(t, want.status, got.Status)
			w.drained()
			require.Equal(t, want.effects, w.effects("a"))
			require.Equal(t, 1, seen("a1"), "subscribers see the result once")
			require.Equal(t, got, w.stored("a1"), "the result does not change any more")
			if want.status == "unknown" {
				require.Equal(t, "outcome_unknown", got.Error.Code)
				require.Len(t, w.deadLetters(), 1)
			}
		})
	}
}

func TestStatementKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first")
	w.serving()
	w.publish("statement", statement("a1", commits("a", 40)))
	w.sleeping("pg_sleep(40)")
	w.start("second")
	first.kill()
	require.Equal(t, "unknown", w.stored("a1").Status)
	w.drained()
	require.Equal(t, 1, w.effects("a"))
	var running int
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE state = 'active' AND datname = current_database() AND strpos(query, 'pg_sleep' || '(40)') > 0`).Scan(&running))
	require.Zero(t, running, "it is not reported as finished while it continues")
}

// A frozen runner's statement goes on in the server. Its message is with another runner meanwhile, which waits for the
// session's lock and answers with the end that the first one writes when it wakes up.
func TestStatementOfAFrozenRunner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := w.startWatching()
	frozen := w.start("frozen")
	w.serving()
	w.publish("statement", statement("z", commits("z", 4)))
	w.sleeping("pg_sleep(4)")
	frozen.freeze()
	w.start("other")
	w.waitsForLock("z")
	frozen.thaw()
	got := w.stored("z")
	require.Equal(t, "succeeded", got.Status)
	w.drained()
	require.Equal(t, 1, w.effects("z"))
	require.Equal(t, 1, seen("z"))
	require.Equal(t, got, w.stored("z"))
}

// waitsForLock waits until the message is with a second runner and has been looked at there, and its job not decided.
func (w *world) waitsForLock(id string) {
	w.t.Helper()
	looks := func() (n int) {
		_ = w.pool.QueryRow(w.t.Context(), `SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables
			WHERE schemaname = 'dbrunner' AND relname = 'ledger'`).Scan(&n)
		return n
	}
	require.Eventually(w.t, func() bool {
		consumer, err := w.js.Consumer(w.t.Context(), "DBRUNNER_JOBS_shop", "work")
		if err != nil {
			return false
		}
		info, err := consumer.Info(w.t.Context())
		return err == nil && info.NumRedelivered == 1
	}, testTimeout, tickEvery, "delivered to another runner")
	before := looks()
	require.Eventually(w.t, func() bool { return looks() > before }, testTimeout, tickEvery, "looked at")
	var status string
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), `SELECT status FROM dbrunner.ledger WHERE job_id = $1`, id).Scan(&status))
	require.Equal(w.t, "started", status)
	require.Nil(w.t, w.lookup(id))
}

// CREATE INDEX CONCURRENTLY waits for every statement that was started before: one that waited for its lock would be waited
// for in turn. It also waits for transactions of others, for longer than lock_timeout.
func TestIndexBuiltWhileAnotherRunnerWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("SHOP_LOCK_TIMEOUT=500ms")
	frozen := w.start("frozen")
	w.serving()
	tx, err := w.pool.BeginTx(t.Context(), pgx.TxOptions{})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO effects (name) VALUES ('open')`)
	require.NoError(t, err)
	const index = `CREATE INDEX CONCURRENTLY effects_at ON effects (at)`
	w.publish("statement", statement("i1", index))
	w.sleeping(index)
	frozen.freeze()
	w.start("other")
	w.waitsForLock("i1")
	frozen.thaw()
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, "succeeded", w.stored("i1").Status)
	w.drained()
	var valid bool
	require.NoError(t, w.pool.QueryRow(t.Context(),
		`SELECT indisvalid FROM pg_index WHERE indexrelid = 'effects_at'::regclass`).Scan(&valid))
	require.True(t, valid)
}

// A server that goes away in the middle has the last word on nothing.
func TestServerRestartedInTheMiddleOfAStatement(t *testing.T) {
	t.Parallel()
	w := newWorldWithServer(t)
	w.start("r")
	w.serving()
	w.publish("statement", statement("a1", commits("a", 40)))
	w.sleeping("pg_sleep(40)")
	w.restartDatabase()
	require.Equal(t, "unknown", w.stored("a1").Status)
	w.drained()
	require.Equal(t, 1, w.effects("a"))
}
