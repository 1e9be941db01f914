package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// state is the bucket of pauses.
func (w *world) state() jetstream.KeyValue {
	w.t.Helper()
	kv, err := w.js.KeyValue(w.t.Context(), "DBRUNNER_STATE")
	require.NoError(w.t, err)
	return kv
}

// pause pauses a database and waits until runners have confirmed it.
func (w *world) pause(database string, runners ...string) uint64 {
	w.t.Helper()
	revision, err := w.state().Put(w.t.Context(), "pause."+database, []byte(`{"reason":"upgrade","by":"ada"}`))
	require.NoError(w.t, err)
	for _, instance := range runners {
		w.awaitPaused(database, instance, func(h *contract.DatabaseHeartbeat) bool {
			return len(h.Pauses) == 1 && h.Pauses[0].Revision == revision
		})
	}
	return revision
}

func (w *world) resume(database string) {
	w.t.Helper()
	require.NoError(w.t, w.state().Delete(w.t.Context(), "pause."+database))
}

// awaitPaused waits for a heartbeat of a database.
func (w *world) awaitPaused(database, instance string, wanted func(*contract.DatabaseHeartbeat) bool) *contract.DatabaseHeartbeat {
	w.t.Helper()
	return awaitLast(w, "dbrunner.health.database."+database+"."+instance, wanted)
}

// results is the number of a database's stored results.
func (w *world) results(database string) int {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_"+database)
	require.NoError(w.t, err)
	return int(s.CachedInfo().State.Msgs)
}

// TestOfJobsInFlightNoneStartsAfterAPause: of 240 jobs that wait for connections in two runners, none starts when these become
// free. Nothing is lost, and no delivery is used up.
func TestOfJobsInFlightNoneStartsAfterAPause(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	const connections, jobs = 40, 320 // of each runner; 80 run at the same time, and 240 wait for a connection
	for _, name := range []string{"r1", "r2"} {
		w.start(w.config(name, withDatabase("watch", "postgres", dsn), withDatabase("shop", "postgres", dsn, func(d *config.Database) {
			d.Pool.Max, d.Slots, d.Pool.ConnectTimeout, d.LockTimeout = connections, jobs/2, 30*time.Second, 5*time.Minute
		})))
	}
	require.Equal(t, "succeeded", w.do("watch", "transaction", "create", `"statements":[{"sql":"CREATE TABLE barrier (n INTEGER)"}]`).Status)
	w.publish("watch", "transaction", `{"id":"barrier","timeout":"10m","statements":[{"sql":"LOCK TABLE barrier"},{"sql":"SELECT 1 AS n FROM pg_sleep(600)"}]}`)
	w.awaitSleeper("watch")
	for i := range jobs {
		w.publish("shop", "transaction", fmt.Sprintf(`{"id":"job%d","timeout":"10m","statements":[{"sql":"SELECT count(*)::int AS n FROM barrier"}]}`, i))
	}
	w.awaitHeld("shop", jobs)
	revision, running := w.pause("shop"), 0
	for _, name := range []string{"r1", "r2"} {
		h := w.awaitPaused("shop", name, func(h *contract.DatabaseHeartbeat) bool {
			return len(h.Pauses) == 1 && h.Pauses[0].Revision == revision
		})
		running += *h.Running
	}
	require.Positive(t, running)
	require.LessOrEqual(t, running, 2*connections)
	require.Equal(t, "cancelled", w.cancel(t, "watch", "barrier", "30s").Outcome) // all connections become free
	for _, name := range []string{"r1", "r2"} {
		w.awaitPaused("shop", name, func(h *contract.DatabaseHeartbeat) bool { return h.Running != nil && *h.Running == 0 })
	}
	finished := map[int]bool{}
	for i := range jobs {
		finished[i] = w.stored("shop", fmt.Sprintf("job%d", i)) != nil
	}
	require.Equal(t, running, w.results("shop"), "those that had started finish, and none of the others starts")
	c, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "work")
	require.NoError(t, err)
	require.Equal(t, jobs-running, c.CachedInfo().NumAckPending, "what was in flight stays so")
	require.Zero(t, c.CachedInfo().NumWaiting, "nothing is pulled")

	waits := 0
	for finished[waits] {
		waits++
	}
	cancelled := w.cancel(t, "shop", fmt.Sprintf("job%d", waits), "30s")
	require.Equal(t, "cancelled", cancelled.Outcome, "cancel works meanwhile")
	require.Equal(t, running+1, w.results("shop"), "and starts nothing")

	w.resume("shop")
	for i := range jobs {
		got := w.await("shop", fmt.Sprintf("job%d", i))
		require.Equal(t, 1, got.Deliveries, got.JobID)
		if i != waits {
			require.Equal(t, "succeeded", got.Status)
		}
	}
	require.Zero(t, w.waiting("shop"))
}

// TestJobsThatWaitInAPausedServer: of the jobs in flight, those that execute wait for a lock, and the others for a connection. ps lists them. A pause
// lets the former finish, and none of the latter starts when its connection is free.
func TestJobsThatWaitInAPausedServer(t *testing.T) {
	t.Parallel()
	const connections, jobs = 3, 12
	for engine, driver := range map[string]string{"postgres": "pgx", "sqlserver": "sqlserver"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dsn := ""
			if engine == "sqlserver" {
				dsn = dbtest.SQLServer(t)
			} else {
				dsn = dbtest.Postgres(t)
			}
			w, other := setup(t), callerOf(t, driver, dsn)
			w.start(w.config("r1", withDatabase("shop", engine, dsn, onTestServer, func(d *config.Database) {
				d.Pool.Max, d.Slots, d.Pool.ConnectTimeout, d.LockTimeout = connections, jobs, 30*time.Second, 5*time.Minute
			})))
			require.Equal(t, "succeeded", w.do("shop", "transaction", "create",
				`"statements":[{"sql":"CREATE TABLE barrier (n INTEGER)"},{"sql":"INSERT INTO barrier VALUES (0)"}]`).Status)
			tx, err := other.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			_, err = tx.ExecContext(t.Context(), "UPDATE barrier SET n = 0")
			require.NoError(t, err)
			for i := range jobs {
				w.publish("shop", "transaction", fmt.Sprintf(`{"id":"job%d","timeout":"10m","statements":[{"sql":"UPDATE barrier SET n = n + 1","expect_rows":1}]}`, i))
			}
			w.awaitRunning(func(r *client.Running) bool {
				states := map[string]int{}
				for i := range r.Jobs {
					states[r.Jobs[i].State]++
				}
				return states[contract.JobExecuting] == connections && states[contract.JobWaiting] == jobs-connections
			}, "shop")
			w.pause("shop", "r1")
			require.NoError(t, tx.Rollback())
			w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Running != nil && *h.Running == 0 })
			require.Equal(t, 1+connections, w.results("shop"), "those that had started finish, and none of the others starts")
			w.resume("shop")
			for i := range jobs {
				got := w.await("shop", fmt.Sprintf("job%d", i))
				require.Equal(t, "succeeded", got.Status, "%+v", got.Error)
				require.Equal(t, 1, got.Deliveries)
			}
			require.Equal(t, fmt.Sprintf("[map[n:%d]]", jobs), fmt.Sprint(w.do("shop", "query", "n", `"sql":"SELECT n FROM barrier"`).Rows))
		})
	}
}

// TestAPauseOutlivesRestarts of runners and of NATS, stops work only, and is reported wherever people look.
func TestAPauseOutlivesRestarts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.config("r1", withSQLite(t, "shop"), withSQLite(t, "other"), func(c *config.Config) { c.HTTP.Address = "127.0.0.1:0" })
	r := w.start(cfg)
	w.pause("shop", "r1")
	w.publish("shop", "query", `{"id":"waits","sql":"SELECT 1 AS n"}`)
	for range 2 {
		w.node.Restart()
		r.end(t)
		r = w.start(cfg)
	}
	h := w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return len(h.Pauses) == 1 && h.Health != nil && h.Verdict == contract.Unhealthy
	})
	body, err := json.Marshal(h)
	require.NoError(t, err)
	requireSchema(t, "heartbeat-database", body)
	require.Equal(t, contract.DatabasePaused, h.State)
	require.Equal(t, "paused by ada: upgrade", h.Reason)
	require.Equal(t, contract.Unhealthy, h.Verdict)
	require.Contains(t, h.Reasons, "jobs: they wait: paused by ada: upgrade")
	require.Equal(t, "succeeded", w.do("other", "query", "other", `"sql":"SELECT 1 AS n"`).Status, "another database goes on")
	require.Equal(t, "succeeded", w.do("shop", "health", "health", `"checks":["jobs"]`).Status, "health goes on")
	require.Nil(t, w.stored("shop", "waits"))
	status, text := r.get(t, "/readyz")
	require.Equal(t, 200, status, "readiness stays true")
	require.Contains(t, text, "database shop: paused by ada: upgrade")
	_, text = r.get(t, "/metrics")
	require.Contains(t, text, `dbrunner_paused{database="shop"} 1`)
	require.Contains(t, text, `dbrunner_paused{database="other"} 0`)
	answer := w.request("run.shop.query", `{"id":"asked","sql":"SELECT 1 AS n"}`, "Dbrunner-Wait", "300ms")
	require.Contains(t, string(answer.body), `"code":"no_result_yet"`)
	require.Contains(t, string(answer.body), "the database is paused by ada: upgrade; the job goes on")

	_, err = w.state().Put(t.Context(), "pause.shop", []byte("closed until Monday"))
	require.NoError(t, err)
	h = w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return strings.Contains(h.Reason, "cannot be read") })
	require.Equal(t, contract.DatabasePaused, h.State, "a record that cannot be read pauses, too")
	w.resume("shop")
	require.Equal(t, "succeeded", w.await("shop", "waits").Status)
	require.Equal(t, "succeeded", w.await("shop", "asked").Status)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return h.State == contract.DatabaseUp && h.Pauses == nil && h.Running == nil
	})
}

// TestPausesUseUpNoDeliveries: 30 pauses and resumes under load bring no job nearer to its limit of deliveries.
func TestPausesUseUpNoDeliveries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, name := range []string{"r1", "r2"} {
		w.start(w.config(name, withSQLite(t, "shop")))
	}
	const jobs = 900
	futures := make([]jetstream.PubAckFuture, 0, jobs)
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			f, err := w.js.PublishAsync("dbrunner.jobs.shop.query", fmt.Appendf(nil, `{"id":"job%d","sql":"SELECT %d AS n"}`, i, i))
			require.NoError(t, err)
			futures = append(futures, f)
		}
	}
	waitingPulls := func() int {
		c, err := w.js.Consumer(context.Background(), "DBRUNNER_JOBS_shop", "work")
		if err != nil {
			return -1
		}
		return c.CachedInfo().NumWaiting
	}
	const cycles = 30
	for cycle := range cycles {
		publish(cycle*jobs/cycles, (cycle+1)*jobs/cycles)
		w.pause("shop")
		require.Eventually(t, func() bool { return waitingPulls() == 0 }, testTimeout, time.Millisecond)
		w.resume("shop")
		require.Eventually(t, func() bool { return waitingPulls() > 0 }, testTimeout, time.Millisecond)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			require.NoError(t, err)
		}
	}
	require.Eventually(t, func() bool { return w.waiting("shop") == 0 }, testTimeout, 10*time.Millisecond)
	redelivered := 0
	for i := range jobs {
		if w.await("shop", fmt.Sprintf("job%d", i)).Deliveries > 1 {
			redelivered++
		}
	}
	require.Zero(t, redelivered)
}

// TestWithoutTheBucketOfPauses an installation of an earlier release works, and its health reports what is missing.
func TestWithoutTheBucketOfPauses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first := w.start(w.config("first", withSQLite(t, "shop")))
	first.end(t)
	require.NoError(t, w.js.DeleteStream(t.Context(), "KV_DBRUNNER_STATE"))
	cfg := w.config("r1", withSQLite(t, "shop"), func(c *config.Config) { c.Topology.Mode = config.TopologyVerify })
	w.start(cfg)
	require.Equal(t, "succeeded", w.do("shop", "query", "works", `"sql":"SELECT 1 AS n"`).Status)
	h := w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Health != nil && h.Verdict == contract.Degraded })
	require.Equal(t, contract.DatabaseUp, h.State)
	require.Contains(t, strings.Join(h.Reasons, "; "), "the bucket DBRUNNER_STATE is missing, so that no database can be paused; runner topology apply creates it")

	managed := w.config("r2", withSQLite(t, "shop"))
	w.start(managed) // it creates the bucket
	w.pause("shop", "r1", "r2")
	w.resume("shop")
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Health != nil && h.Verdict == contract.Healthy })
}
