package app_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// countResults counts what reaches a plain subscriber, by job id.
func (w *world) countResults(database string) func() map[string]int {
	w.t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	_, err := w.nc.Subscribe("dbrunner.results."+database+".*", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]++
	})
	require.NoError(w.t, err)
	require.NoError(w.t, w.nc.Flush())
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		out := make(map[string]int, len(seen))
		for id, n := range seen {
			out[id] = n
		}
		return out
	}
}

func (w *world) awaitEmpty(database string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.waiting(database) == 0 }, 2*testTimeout, 50*time.Millisecond, "jobs are left")
}

// When not even the results that must be kept fit, intake stops, loudly; it goes on by itself when there is room, and
// each job gets its one result.
func TestResultsFull(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop"), withSQLite(t, "other"), func(cfg *config.Config) {
		cfg.Topology.Results.MinAge, cfg.Topology.Results.MaxAge = 2*time.Second, time.Hour
		cfg.Topology.Results.MaxCount = 50
	}))
	seen := w.countResults("shop")
	const count = 120
	for i := range count {
		w.publish("shop", "query", fmt.Sprintf(`{"id":"q%d","sql":"SELECT 1 AS n"}`, i))
	}
	require.Eventually(t, func() bool {
		return r.logs.FilterMessageSnippet("results stream full").Len() > 0
	}, testTimeout, 10*time.Millisecond, "it is said")
	require.Equal(t, "succeeded", w.do("other", "query", "o1", `"sql":"SELECT 1 AS n"`).Status, "other databases go on")
	w.awaitEmpty("shop")
	require.Positive(t, r.logs.FilterMessageSnippet("purged").Len(), "purging is said")
	got := seen()
	require.Len(t, got, count)
	for id, n := range got {
		require.Equal(t, 1, n, "result of %s", id)
	}
}

// A database that comes and goes costs its jobs no attempt and the others nothing.
func TestFlappingDatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", server.Database(t)), withSQLite(t, "other")))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE t (n int)"}]`).Status)
	const rounds, each = 3, 10
	for round := range rounds {
		server.Stop(t, dbtest.StopImmediate)
		for i := range each {
			w.publish("shop", "transaction",
				fmt.Sprintf(`{"id":"f%d-%d","statements":[{"sql":"INSERT INTO t VALUES (1)"}]}`, round, i))
		}
		require.Equal(t, "succeeded", w.do("other", "query", fmt.Sprintf("o%d", round), `"sql":"SELECT 1 AS n"`).Status)
		server.Start(t)
		for i := range each {
			got := w.await("shop", fmt.Sprintf("f%d-%d", round, i))
			require.Equal(t, "succeeded", got.Status)
			require.LessOrEqual(t, got.Deliveries, 2, "no deliveries are burnt")
		}
	}
	require.Equal(t, []any{[]any{fmt.Sprint(rounds * each)}},
		w.do("shop", "query", "count", `"row_format":"arrays","sql":"SELECT count(*) FROM t"`).Rows)
	requireDeadLetters(t, w, map[string]string{})
}

// After any amount of work of every sort a runner is as small as after the first. Goroutines and heap are those of the
// process, so this test does not run in parallel with others.
func TestBackToBaseline(t *testing.T) {
	url := dbtest.Postgres(t)
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", url, func(d *config.Database) {
		d.Pool.MaxIdleTime = time.Second
	}), withDatabase("watch", "postgres", url, func(d *config.Database) { d.Pool.Min, d.Pool.Max = 1, 1 })))
	burst := func(round int) {
		for i := range 300 {
			id := fmt.Sprintf("b%d-%d", round, i)
			switch i % 5 {
			case 0:
				w.publish("shop", "query", fmt.Sprintf(`{"id":%q,"sql":"SELECT generate_series(1,2000) AS n"}`, id))
			case 1:
				w.publish("shop", "transaction", fmt.Sprintf(`{"id":%q,"statements":[{"sql":"SELECT 1 AS n"}]}`, id))
			case 2:
				w.publish("shop", "query", fmt.Sprintf(`{"id":%q,"sql":"SELECT nothing"}`, id))
			case 3:
				w.publish("shop", "query", fmt.Sprintf(`{"id":%q,"sql":"SELECT pg_sleep(5)","timeout":"20ms"}`, id))
			case 4:
				w.publish("shop", "query", `{"id":"bad","sql":5}`)
			}
		}
		w.awaitEmpty("shop")
	}
	burst(0)
	goroutines, heap := goroutinesBesideWorkers(), liveHeap()
	for round := 1; round <= 4; round++ {
		burst(round)
	}
	require.Eventually(t, func() bool { return goroutinesBesideWorkers() <= goroutines+30 }, testTimeout, 50*time.Millisecond,
		"goroutines: %d, then %d", goroutines, goroutinesBesideWorkers())
	require.Less(t, liveHeap(), heap+64<<20, "live heap, bytes; other tests share it")
	asked := 0
	require.Eventually(t, func() bool {
		asked++
		got := w.do("watch", "query", fmt.Sprintf("c%d", asked), `"row_format":"arrays","sql":"SELECT count(*)::int FROM pg_stat_activity `+
			`WHERE datname = current_database() AND backend_type = 'client backend'"`)
		n, err := json.Marshal(got.Rows)
		return err == nil && (string(n) == "[[2]]" || string(n) == "[[3]]")
	}, testTimeout, 200*time.Millisecond, "connections go back to the minimum")
}

// goroutinesBesideWorkers leaves out the workers of lanes, which stay: as many as jobs were in flight at a time, at most the slots.
func goroutinesBesideWorkers() int {
	var stacks strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2) // a Builder takes everything
	all := strings.Count(stacks.String(), "\n\n") + 1
	return all - strings.Count(stacks.String(), "worker.(*Lane).work(")
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
