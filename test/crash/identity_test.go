package crash

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A job published again within the retention, which runs only when the row that remembers it would be due for deletion: the row
// is kept as long as a message waits that is younger than it by less than the retention.
func TestDuplicateThatOutwaitsTheRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("RUNNER_TOPOLOGY_RESULTS_MIN_AGE=1s", "RUNNER_TOPOLOGY_RESULTS_MAX_AGE=2s", "RUNNER_TOPOLOGY_JOBS_DUPLICATE_WINDOW=500ms",
		"SHOP_LEDGER_RETENTION=2s", "SHOP_LEDGER_SWEEP_INTERVAL=1s", "SHOP_SLOTS=1")
	w.start("r")
	w.serving()
	w.publish("transaction", insert("a1", "a"))
	require.False(t, w.stored("a1").Duplicate)
	w.publish("transaction", `{"id":"slow","statements":[{"sql":"SELECT pg_sleep(6)"}]}`) // the lane is busy
	w.publish("transaction", insert("a1", "a"))
	require.Eventually(t, func() bool { return w.lookup("a1") == nil }, testTimeout, 100*time.Millisecond, "the result ages out")
	require.Eventually(t, func() bool {
		body := w.lookup("a1")
		return body != nil && w.stored("a1").Duplicate
	}, testTimeout, 50*time.Millisecond, "answered from the ledger")
	w.drained()
	require.Equal(t, 1, w.effects("a"))
	require.Eventually(t, func() bool {
		var rows int
		err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM dbrunner.ledger`).Scan(&rows)
		return err == nil && rows == 0
	}, testTimeout, 100*time.Millisecond, "then the ledger is cleaned")
}

func TestIDTakenByAReadBetweenLookAndCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("r")
	w.serving()
	sequence := w.publish("transaction",
		`{"id":"x","statements":[{"sql":"INSERT INTO effects (name) VALUES ('x')"},{"sql":"SELECT pg_sleep(2)"}]}`)
	w.sleeping("pg_sleep(2)")
	w.publish("query", `{"id":"x","sql":"SELECT 1 AS n"}`)
	read := w.stored("x")
	w.drained()
	require.Equal(t, 1, w.effects("x"))
	deadLetters := w.deadLetters()
	require.Len(t, deadLetters, 1)
	require.Equal(t, "result_id_taken", deadLetters[0].Get("Dbrunner-Reason"))
	aside := w.stored(deadLetters[0].Get("Dbrunner-Result-Id"))
	require.Equal(t, "succeeded", aside.Status)
	require.Equal(t, sequence, aside.Sequence)
	require.Equal(t, "result_id_taken", aside.Error.Code)
	require.Equal(t, read, w.stored("x"), "the read's result stays")
}

func TestRecreatedConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("r")
	w.serving()
	for i := range 20 {
		w.publish("transaction", insert(fmt.Sprintf("a%d", i), "a"))
		if i == 10 {
			w.stored("a0")
			require.NoError(t, w.js.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_shop", "work"))
		}
	}
	for i := range 20 {
		require.Equal(t, "succeeded", w.stored(fmt.Sprintf("a%d", i)).Status)
	}
	w.drained()
	require.Equal(t, 20, w.effects("a"))
}

// Two runners race on one redelivered message: a frozen one, whose lease runs out in the middle of its transaction,
// wakes up while the other executes.
func TestFrozenRunnerWakesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := w.startWatching()
	frozen := w.start("frozen")
	w.serving()
	w.publish("transaction",
		`{"id":"z","statements":[{"sql":"INSERT INTO effects (name) VALUES ('z')"},{"sql":"SELECT pg_sleep(1.5)"}]}`)
	w.sleeping("pg_sleep(1.5)")
	frozen.freeze()
	w.start("other")
	got := w.stored("z")
	frozen.thaw()
	w.drained()
	w.publish("transaction", insert("after", "after"))
	w.stored("after")
	require.Equal(t, "succeeded", got.Status)
	require.Equal(t, 1, w.effects("z"))
	require.Equal(t, 1, seen("z"))
	require.Equal(t, got, w.stored("z"))
}

func TestManyRacingDuplicates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := w.startWatching()
	w.start("r1")
	w.start("r2")
	w.serving()
	var publishers sync.WaitGroup
	for range 8 {
		publishers.Go(func() {
			for i := range 25 {
				w.publish("transaction", insert(fmt.Sprintf("d%d", i), fmt.Sprintf("d%d", i)))
			}
		})
	}
	publishers.Wait()
	w.drained()
	for i := range 25 {
		id := fmt.Sprintf("d%d", i)
		require.Equal(t, "succeeded", w.stored(id).Status)
		require.Equal(t, 1, w.effects(id))
		require.Equal(t, 1, seen(id))
	}
}
