package crash

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

// dryRunOf is a dry run of insert, whose effect shows in its answer.
func dryRunOf(id, name string) string {
	return fmt.Sprintf(`{"id":%q,"statements":[{"sql":"INSERT INTO effects (name) VALUES (:name)","params":{"name":%q},"expect_rows":1},{"sql":"SELECT name FROM effects"}]}`, id, name)
}

// approvalOf is the approval of a dry run that is stored.
func (w *world) approvalOf(id string) string {
	w.t.Helper()
	var r struct {
		Digest string `json:"effect_digest"`
	}
	require.NoError(w.t, json.Unmarshal(w.lookup(id), &r))
	require.NotEmpty(w.t, r.Digest)
	return fmt.Sprintf(`{"id":"%s_approved","approves":%q,"expect_digest":%q}`, id, id, r.Digest)
}

// sqliteWorld has a file as its database.
func sqliteWorld(t *testing.T) *world {
	t.Helper()
	w := onNATS(t, bustest.Server(t).ClientURL())
	w.url, w.kept = filepath.Join(t.TempDir(), "shop.db"), "dbrunner_ledger"
	db, err := sql.Open("sqlite", "file:"+w.url+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	w.db = db
	w.exec(`CREATE TABLE effects (name TEXT NOT NULL)`)
	w.set("SHOP_TYPE=sqlite", "SHOP_CONNECTION_STRING="+w.url)
	return w
}

// A runner that is killed in the open transaction of a dry run leaves no row, no lock, no transaction and no ledger row. The
// redelivered message is executed again, and leaves nothing either.
func TestDryRunKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for engine, world := range map[string]func(*testing.T) *world{
		"postgres":  newWorld,
		"sqlite":    sqliteWorld,
		"sqlserver": func(t *testing.T) *world { w, _ := newSQLServerWorld(t); return w },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			w := world(t)
			w.set("SHOP_KINDS=dry_run,transaction,query")
			first := w.start("first", "DBRUNNER_CRASH_AT=in_dry_run")
			w.serving()
			w.publish("dry_run", dryRunOf("d1", "a"))
			first.died()
			w.nothingOpen()
			w.start("second")
			got := w.stored("d1")
			require.Equal(t, "succeeded", got.Status, got.Error.Message)
			require.Equal(t, 2, got.Deliveries)
			w.nothingOpen()
			w.publish("query", `{"id":"rows","sql":"SELECT count(*) AS n FROM effects"}`)
			require.Equal(t, "succeeded", w.stored("rows").Status)
			require.Regexp(t, `"rows":\[\{"n":"?0"?\}\]`, string(w.lookup("rows")))
			w.publish("transaction", `{"id":"after","statements":[{"sql":"DELETE FROM effects","expect_rows":0}]}`)
			require.Equal(t, "succeeded", w.stored("after").Status, "no lock is left")
			w.drained()
			w.ledgerRows(map[string]int{"d1": 0, "after": 1})
		})
	}
}

// nothingOpen waits until no session has a transaction or a lock on the table of the tests: the server notices by itself that a
// client is gone. A change of the table that is rolled back waits for all of them, on every engine.
func (w *world) nothingOpen() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), testTimeout)
	defer cancel()
	tx, err := w.db.BeginTx(ctx, nil)
	require.NoError(w.t, err)
	_, err = tx.ExecContext(ctx, `ALTER TABLE effects ADD probe int`)
	require.NoError(w.t, err)
	require.NoError(w.t, tx.Rollback())
	if w.pool == nil {
		return
	}
	const count = `SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend')
		+ (SELECT count(*) FROM pg_locks WHERE relation = 'effects'::regclass AND pid <> pg_backend_pid())`
	require.Eventually(w.t, func() bool {
		var n int
		return w.pool.QueryRow(w.t.Context(), count).Scan(&n) == nil && n == 0
	}, testTimeout, 20*time.Millisecond)
}

// ledgerRows requires how many rows the ledger has of some jobs.
func (w *world) ledgerRows(want map[string]int) {
	w.t.Helper()
	for id, rows := range want {
		var n int
		require.NoError(w.t, w.db.QueryRowContext(w.t.Context(), "SELECT count(*) FROM "+w.kept+" WHERE job_id = '"+id+"'").Scan(&n))
		require.Equal(w.t, rows, n, id)
	}
}

// Whatever dies on the way of an approval, its effect and its result are there once.
func TestApprovalKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"after_commit", "before_store", "after_ack"} {
		eachEngine(t, place, func(t *testing.T, w *world) {
			w.set("SHOP_KINDS=dry_run,approve,transaction")
			seen := w.startWatching()
			before := w.start("before")
			w.serving()
			w.publish("dry_run", dryRunOf("d1", "a"))
			require.Equal(t, "succeeded", w.stored("d1").Status)
			w.drained()
			before.kill()
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.publish("approve", w.approvalOf("d1"))
			first.died()
			w.start("second")
			got := w.stored("d1_approved")
			require.Equal(t, "succeeded", got.Status, got.Error.Message)
			w.drained()
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("d1_approved"))
		})
	}
}

// A runner that has found no dry run is frozen before it records the rejection. Meanwhile the dry run is there, and another runner
// commits the approval. What the first one has decided does not count.
func TestFrozenBeforeItsDryRunWasThere(t *testing.T) {
	t.Parallel()
	eachEngine(t, "frozen", frozenBeforeItsDryRunWasThere)
}

func frozenBeforeItsDryRunWasThere(t *testing.T, w *world) {
	w.set("SHOP_KINDS=dry_run,approve,transaction")
	seen := w.startWatching()
	before := w.start("before")
	w.serving()
	w.publish("dry_run", dryRunOf("d0", "a"))
	require.Equal(t, "succeeded", w.stored("d0").Status)
	w.drained()
	before.kill()
	approval := bytes.ReplaceAll([]byte(w.approvalOf("d0")), []byte(`"d0`), []byte(`"d1`))
	result := bytes.ReplaceAll(w.lookup("d0"), []byte(`"job_id":"d0"`), []byte(`"job_id":"d1"`))

	rejecting := w.start("rejecting", "DBRUNNER_FREEZE_AT=after_rejection")
	w.publish("approve", string(approval))
	rejecting.frozen()
	w.publishTo("store.shop.d1", string(result)) // as a runner stores it
	accepting := w.start("accepting", "DBRUNNER_FREEZE_AT=before_store")
	accepting.frozen()
	require.Equal(t, 1, w.effects("a"))
	rejecting.thaw()
	require.Equal(t, "succeeded", w.stored("d1_approved").Status)
	accepting.thaw()
	w.drained()
	require.Equal(t, "succeeded", w.stored("d1_approved").Status)
	require.Equal(t, 1, w.effects("a"))
	require.Equal(t, 1, seen("d1_approved"))
	require.Empty(t, w.deadLetters())
}
