package app_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// withQueue configures a queue.
func withQueue(name string, slots, fleetSlots int) func(*config.Database) {
	return func(d *config.Database) {
		if d.Queues == nil {
			d.Queues = map[string]*config.Queue{}
		}
		d.Queues[name] = &config.Queue{Slots: slots, FleetSlots: fleetSlots}
	}
}

// submit publishes a job to a queue; its body has its id.
func (w *world) submit(database, queue, kind, id, rest string) client.Receipt {
	w.t.Helper()
	receipt, err := w.newClient().Submit(w.t.Context(), &client.Job{
		Database: database, Queue: queue, Kind: kind, ID: id, Body: fmt.Appendf(nil, `{"id":%q,%s}`, id, rest),
	})
	require.NoError(w.t, err)
	return receipt
}

// TestQueues: jobs of each kind run through a queue; ids, ledger and results are those of the database; a dead dead knows the queue; what
// no queue takes is refused.
func TestQueues(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		w.start(w.config("r1", withDatabase("shop", engine, connection, onTestServer, withQueue("bulk", 2, 3), withQueue("feed", 1, 1))))
		w.submit("shop", "bulk", "transaction", "t", `"statements":[{"sql":"CREATE TABLE effects (n INTEGER)"}]`)
		require.Equal(t, "succeeded", w.await("shop", "t").Status)
		w.submit("shop", "bulk", "query", "q", `"sql":"SELECT count(*) AS n FROM effects"`)
		w.submit("shop", "feed", "statement", "s", `"sql":"CREATE TABLE other (n INTEGER)"`)
		for _, id := range []string{"q", "s"} {
			require.Equal(t, "succeeded", w.await("shop", id).Status, id)
		}

		insert := `"statements":[{"sql":"INSERT INTO effects VALUES (1)"}]`
		w.submit("shop", "feed", "transaction", "once", insert)
		require.Equal(t, "succeeded", w.await("shop", "once").Status)
		w.publish("shop", "transaction", `{"id":"once",`+insert+`}`) // the same job, by the other line
		w.awaitEmpty("shop")
		require.Equal(t, "[map[n:1]]", fmt.Sprint(w.do("shop", "query", "count", `"sql":"SELECT count(*) AS n FROM effects"`).Rows))

		w.submit("shop", "bulk", "query", "broken", `"sql":"SELECT nothing FROM nowhere"`)
		require.Equal(t, "failed", w.await("shop", "broken").Status)
		var dead *client.DeadLetter
		require.Eventually(t, func() bool {
			_ = w.newClient().DeadLetters(t.Context(), client.DeadLetterFilter{Database: "shop"}, func(d *client.DeadLetter) error { dead = d; return nil })
			return dead != nil
		}, testTimeout, 10*time.Millisecond)
		require.Equal(t, "bulk", dead.JobSubject().Queue)
		require.Equal(t, "dbrunner.queues.shop.bulk.query", dead.Headers.Get(contract.HeaderSubject))

		for _, job := range []client.Job{
			{Queue: "bluk", Kind: "query"}, {Queue: "bulk", Kind: "migration"}, {Queue: "bulk", Kind: "health"}, {Queue: "bulk", Kind: "cal"},
		} {
			job.Database, job.Body = "shop", []byte(`{}`)
			_, err := w.newClient().Submit(t.Context(), &job)
			require.ErrorIs(t, err, client.ErrNoStream)
			require.ErrorContains(t, err, "the database has no queue "+job.Queue+", or "+job.Kind+" does not run in it")
		}
		_, err := w.newClient().Submit(t.Context(), &client.Job{Database: "shop", Queue: "Bulk", Kind: "query", Body: []byte(`{}`)})
		require.ErrorIs(t, err, client.ErrSubject)
		require.Contains(t, string(w.request("databases.shop", "").body), `"queues":[{"name":"bulk","fleet_slots":3},{"name":"feed","fleet_slots":1}]`)
		h := w.awaitHeartbeat("r1", func(h *heartbeat) bool { return len(h.Databases) == 1 && len(h.Databases[0].Lanes) == 5 })
		require.Equal(t, "queue_bulk", h.Databases[0].Lanes[3].Name)
		require.Equal(t, 2, h.Databases[0].Lanes[3].Slots)
	})
}

// TestAKindThatNoQueueHasIsRejected, should a stream take it.
func TestAKindThatNoQueueHasIsRejected(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withQueue("bulk", 2, 3)), func(cfg *config.Config) {
		cfg.Topology.Mode = config.TopologyManage
	}))
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	cfg := stream.CachedInfo().Config
	cfg.Subjects = append(slices.Clone(cfg.Subjects), "dbrunner.queues.shop.bulk.migration")
	_, err = w.js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	_, err = w.js.Publish(t.Context(), "dbrunner.queues.shop.bulk.migration", []byte(`{"id":"m"}`))
	require.NoError(t, err)
	rejected := w.await("shop", "m")
	require.Equal(t, "rejected", rejected.Status)
	require.Equal(t, "kind_not_allowed", rejected.Error.Code)
}

// TestQueuesAreTurnedOnWithoutARestart: a runner starts on a topology without its queue, and runs its jobs once it is added.
func TestQueuesAreTurnedOnWithoutARestart(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{config.TopologyManage, config.TopologyVerify} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w, file := setup(t), filepath.Join(t.TempDir(), "shop.db")
			w.start(w.config("r0", withDatabase("shop", "sqlite", file))).end(t)
			cfg := w.config("r1", withDatabase("shop", "sqlite", file, withQueue("bulk", 2, 3)), func(cfg *config.Config) { cfg.Topology.Mode = mode })
			w.start(cfg)
			_, err := w.newClient().Submit(t.Context(), &client.Job{Database: "shop", Queue: "bulk", Kind: "query", ID: "a", Body: []byte(`{"id":"a","sql":"SELECT 1"}`)})
			require.ErrorIs(t, err, client.ErrNoStream)
			require.Equal(t, "succeeded", w.do("shop", "query", "q", `"sql":"SELECT 1 AS n"`).Status, "everything else runs")
			w.awaitHeartbeat("r1", func(h *heartbeat) bool { return len(h.Databases) == 1 && h.Databases[0].Verdict == "degraded" })
			maker, _ := w.client("maker", withDatabase("shop", "sqlite", file))
			changes, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
			require.NoError(t, err)
			require.NotEmpty(t, changes)
			w.submit("shop", "bulk", "query", "a", `"sql":"SELECT 1 AS n"`)
			require.Equal(t, "succeeded", w.await("shop", "a").Status)
			w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.Databases[0].Verdict == "healthy" })
		})
	}
}

// TestAPausedQueue stops alone: its jobs wait, those of the database and of other queues run; it is reported, and resumed. A paused database
// stops its queues as well.
func TestAPausedQueue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withQueue("bulk", 2, 3), withQueue("feed", 1, 1)),
		func(cfg *config.Config) { cfg.HTTP.Address = "127.0.0.1:0" }))
	_, err := w.state().Put(t.Context(), "pause.shop.queue.bulk", []byte(`{"reason":"reports are due","by":"ada"}`))
	require.NoError(t, err)
	h := w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return len(h.Pauses) == 1 && h.Health != nil && h.Verdict == contract.Degraded
	})
	require.Equal(t, contract.DatabaseUp, h.State)
	require.Equal(t, "pause.shop.queue.bulk", h.Pauses[0].Key)
	require.Contains(t, h.Reasons, "jobs: queue bulk: paused by ada: reports are due")
	w.submit("shop", "bulk", "query", "waits", `"sql":"SELECT 1 AS n"`)
	w.submit("shop", "feed", "query", "other", `"sql":"SELECT 1 AS n"`)
	require.Equal(t, "succeeded", w.await("shop", "other").Status)
	require.Equal(t, "succeeded", w.do("shop", "query", "plain", `"sql":"SELECT 1 AS n"`).Status)
	require.Nil(t, w.stored("shop", "waits"))
	_, metrics := r.get(t, "/metrics")
	require.Contains(t, metrics, `dbrunner_paused{database="shop"} 0`)
	require.Contains(t, metrics, `dbrunner_paused{database="shop",queue="bulk"} 1`)
	require.Contains(t, metrics, `dbrunner_paused{database="shop",queue="feed"} 0`)

	w.pause("shop")
	require.NoError(t, w.state().Delete(t.Context(), "pause.shop.queue.bulk"))
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return len(h.Pauses) == 1 && h.State == contract.DatabasePaused
	})
	w.submit("shop", "feed", "query", "later", `"sql":"SELECT 1 AS n"`)
	w.publish("shop", "health", `{"id":"health"}`)
	require.Equal(t, "succeeded", w.await("shop", "health").Status)
	require.Nil(t, w.stored("shop", "waits"), "the pause of the database stops its queues")
	require.Nil(t, w.stored("shop", "later"))
	w.resume("shop")
	for _, id := range []string{"waits", "later"} {
		got := w.await("shop", id)
		require.Equal(t, "succeeded", got.Status)
		require.Equal(t, 1, got.Deliveries)
	}
	r.expect(t, map[string]float64{
		"dbrunner_jobs_total queue=bulk,kind=query,status=succeeded,code=": 1, "dbrunner_job_duration_seconds queue=feed,kind=query": 2,
		"dbrunner_jobs_total queue=,kind=query,status=succeeded,code=": 1, "dbrunner_jobs_total queue=,kind=health,status=succeeded,code=": 1,
		"dbrunner_jobs_total queue=feed,kind=transaction,status=succeeded,code=": 0, "dbrunner_jobs_total queue=feed,kind=health": -1,
	})
}

// TestAQueueHasSlotsOfItsOwn: with many jobs pending in a queue, the slots bound those in flight, everyone sees them, and other jobs run.
func TestAQueueHasSlotsOfItsOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	for _, name := range []string{"r1", "r2"} {
		w.start(w.config(name, withDatabase("shop", "postgres", dsn, withQueue("bulk", 2, 3)),
			func(cfg *config.Config) { cfg.Worker.DrainTimeout = 50 * time.Millisecond }))
	}
	for i := range 20 {
		w.submit("shop", "bulk", "query", fmt.Sprintf("bulk%d", i), sleepingQuery)
	}
	found := w.awaitRunning(func(r *client.Running) bool {
		return len(r.Jobs) == 3 && !slices.ContainsFunc(r.Jobs, func(j client.RunningJob) bool { return j.State != contract.JobExecuting })
	}, "shop")
	byRunner := map[string]int{}
	for i := range found.Jobs {
		require.Equal(t, "bulk", found.Jobs[i].Queue)
		byRunner[found.Jobs[i].Runner]++
	}
	require.Len(t, byRunner, 2, "no runner has more than its slots")
	for i := range 20 {
		require.Equal(t, "succeeded", w.do("shop", "query", fmt.Sprintf("read%d", i), `"sql":"SELECT 1 AS n"`).Status)
	}
	c, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "queue_bulk")
	require.NoError(t, err)
	require.Equal(t, 3, c.CachedInfo().NumAckPending)
	require.EqualValues(t, 17, c.CachedInfo().NumPending)
	cancelled := w.cancel(t, "shop", found.Jobs[0].JobID, "30s")
	require.Equal(t, "cancelled", cancelled.Outcome)
	for i := range 20 {
		_, err := w.nc.Request(fmt.Sprintf("dbrunner.api.cancel.shop.bulk%d", i), nil, testTimeout)
		require.NoError(t, err)
	}
	w.awaitEmpty("shop")
}

// BenchmarkReadsBesideAQueue is a read of one row, from its publish to its stored result, while 10,000 jobs of a second are pending in a queue of
// the database, or none. It reports how many of 100 reads took at most how long.
func BenchmarkReadsBesideAQueue(b *testing.B) {
	for _, pending := range []int{0, 10_000} {
		b.Run(fmt.Sprint("pending=", pending), func(b *testing.B) { readsBesideBenchmark(b, pending) })
	}
}

func readsBesideBenchmark(b *testing.B, pending int) {
	node := bustest.Server(b)
	nc, js := bustest.Plain(b, node.ClientURL())
	w := &world{t: b, node: node, nc: nc, js: js}
	w.start(w.config("bench", withDatabase("shop", "postgres", dbtest.Postgres(b), withQueue("bulk", 2, 2), func(d *config.Database) { d.Pool.Max = 8 }),
		func(cfg *config.Config) { cfg.Worker.DrainTimeout = 0 }))
	for i := range pending {
		_, err := w.js.PublishAsync("dbrunner.queues.shop.bulk.query", fmt.Appendf(nil, `{"id":"bulk%d","sql":"SELECT 1 AS n FROM pg_sleep(1)"}`, i))
		require.NoError(b, err)
	}
	<-w.js.PublishAsyncComplete()
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("read%d", i)
		sub, err := w.nc.SubscribeSync("dbrunner.results.shop." + id)
		require.NoError(b, err)
		start := time.Now()
		_, err = w.js.Publish(b.Context(), "dbrunner.jobs.shop.query", fmt.Appendf(nil, `{"id":%q,"sql":"SELECT 1 AS n"}`, id))
		require.NoError(b, err)
		_, err = sub.NextMsg(testTimeout)
		took = append(took, time.Since(start))
		require.NoError(b, errors.Join(err, sub.Unsubscribe()))
	}
	slices.Sort(took)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*percent/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", percent))
	}
	require.True(b, pending == 0 || w.waiting("shop") > 0, "jobs of the queue are pending to the end")
}
