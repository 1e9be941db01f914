package app_test

import (
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
)

// withOrdered configures an ordered queue.
func withOrdered(name string) func(*config.Database) {
	return func(d *config.Database) {
		if d.Queues == nil {
			d.Queues = map[string]*config.Queue{}
		}
		d.Queues[name] = &config.Queue{Ordered: true}
	}
}

// withAckWait has consumers wait so long for a sign of a runner.
func withAckWait(wait time.Duration) func(*config.Config) {
	return func(cfg *config.Config) { cfg.Topology.AckWait = wait }
}

// feed publishes a job to the ordered queue feed that appends its number to a table, or fails before.
func (w *world) feed(id string, n int, fails bool) uint64 {
	w.t.Helper()
	first := ""
	if fails {
		first = fmt.Sprintf(`{"sql":"UPDATE repaired SET n = n WHERE n = %d","expect_rows":1},`, n)
	}
	return w.submit("shop", "feed", "transaction", id, fmt.Sprintf(`"statements":[%s{"sql":"INSERT INTO effects (job) VALUES (%d)"}]`, first, n)).Sequence
}

// applied returns the numbers that jobs appended, in the order of their COMMITs.
func (w *world) applied() string {
	w.t.Helper()
	w.count++
	got := w.do("shop", "query", fmt.Sprintf("effects%d", w.count), `"sql":"SELECT job FROM effects ORDER BY n"`)
	var out []string
	for _, row := range got.Rows.([]any) {
		out = append(out, fmt.Sprint(row.(map[string]any)["job"]))
	}
	return strings.Join(out, " ")
}

func (w *world) feedTables() {
	w.t.Helper()
	require.Equal(w.t, "succeeded", w.do("shop", "transaction", "tables",
		`"statements":[{"sql":"CREATE TABLE effects (n INTEGER PRIMARY KEY, job INTEGER)"},{"sql":"CREATE TABLE repaired (n INTEGER)"}]`).Status)
}

// awaitFailed waits until a runner reports that it has the failed job.
func (w *world) awaitFailed(instance, id string) *contract.FailedJob {
	w.t.Helper()
	var failed *contract.FailedJob
	awaitLast(w, "dbrunner.health.runner."+instance, func(h *contract.RunnerHeartbeat) bool {
		failed = nil
		for _, d := range h.Databases {
			for _, l := range d.Lanes {
				if l.Failed != nil {
					failed = l.Failed
				}
			}
		}
		return failed != nil && failed.JobID == id
	})
	return failed
}

// resumes stores a record of an operator by hand.
func (w *world) resumes(sequence uint64, stored time.Time) {
	w.t.Helper()
	record, err := contract.EncodeResume(contract.QueueResume{Sequence: sequence, QueuedAt: stored})
	require.NoError(w.t, err)
	_, err = w.state().Put(w.t.Context(), contract.ResumeKey("shop", "feed"), record)
	require.NoError(w.t, err)
}

// TestOrderedQueue: jobs take effect in stream order; one that failed keeps the others waiting, is named, and is released by its own record
// alone; cancelled ones and duplicates do not keep the queue; what the queue does not take is rejected, and stays.
func TestOrderedQueue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withOrdered("feed")), withAckWait(2*time.Second),
		func(cfg *config.Config) { cfg.HTTP.Address = "127.0.0.1:0" }))
	w.feedTables()
	for i := range 5 {
		w.feed(fmt.Sprint("a", i), i, false)
	}
	w.awaitEmpty("shop")
	require.Equal(t, "0 1 2 3 4", w.applied())

	w.feed("f", 5, true)
	w.feed("g", 6, true)
	w.feed("h", 7, false)
	failed := w.awaitFailed("r1", "f")
	require.Equal(t, "expect_rows_failed", failed.Code)
	require.Equal(t, "failed", w.await("shop", "f").Status)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return h.Health != nil && h.Verdict == contract.Degraded && slices.ContainsFunc(h.Reasons, func(reason string) bool {
			return strings.Contains(reason, "the ordered queue feed waits: its job f") && strings.Contains(reason, "expect_rows_failed")
		})
	})
	running := w.awaitRunning(func(*client.Running) bool { return true }, "shop")
	require.Len(t, running.Jobs, 1)
	require.Equal(t, contract.JobAwaitingResume, running.Jobs[0].State)
	require.Equal(t, "expect_rows_failed", running.Jobs[0].Code)
	_, metrics := r.get(t, "/metrics")
	require.Contains(t, metrics, `dbrunner_queue_failed{database="shop",queue="feed"} 1`)

	// An operator who pauses the database and waits until nothing runs does not wait for the failed job.
	_, err := w.state().Put(t.Context(), "pause.shop", []byte(`{"reason": "upgrade"}`))
	require.NoError(t, err)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return len(h.Pauses) == 1 && h.Pauses[0].Running == 0 && h.Running != nil && *h.Running == 0
	})
	require.NoError(t, w.state().Delete(t.Context(), "pause.shop"))
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return len(h.Pauses) == 0 })

	w.resumes(failed.Sequence+1, failed.QueuedAt)                    // another message
	w.resumes(failed.Sequence, failed.QueuedAt.Add(time.Nanosecond)) // of another stream
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	early, err := stream.GetMsg(t.Context(), failed.Sequence+1)
	require.NoError(t, err)
	w.resumes(early.Sequence, early.Time) // the next one's own, before its turn
	time.Sleep(2500 * time.Millisecond)   // by the clock: longer than the interval of looks, and than ack_wait
	require.Equal(t, "0 1 2 3 4", w.applied(), "nothing behind a failed job starts")
	require.Nil(t, w.stored("shop", "g"))

	require.Equal(t, "succeeded", w.do("shop", "transaction", "repair", `"statements":[{"sql":"INSERT INTO repaired VALUES (6)"},{"sql":"INSERT INTO effects (job) VALUES (50)"}]`).Status)
	w.resumes(failed.Sequence, failed.QueuedAt)
	w.awaitEmpty("shop")
	require.Equal(t, "0 1 2 3 4 50 6 7", w.applied(), "repaired by the plain lane meanwhile")
	require.Equal(t, "failed", w.await("shop", "f").Status)

	w.resumes(failed.Sequence, failed.QueuedAt) // again
	w.feed("a0", 0, false)                      // a duplicate of a success
	w.feed("i", 8, true)
	w.feed("j", 9, false)
	next := w.awaitFailed("r1", "i")
	w.resumes(next.Sequence, next.QueuedAt)
	w.awaitEmpty("shop")
	require.Equal(t, "0 1 2 3 4 50 6 7 9", w.applied())
}

// withoutAnOrder has the queue's consumer deliver many messages at a time, in any order.
func (w *world) withoutAnOrder() jetstream.Consumer {
	w.t.Helper()
	c, err := w.js.Consumer(w.t.Context(), "DBRUNNER_JOBS_shop", "queue_feed")
	require.NoError(w.t, err)
	cfg := c.CachedInfo().Config
	cfg.MaxAckPending = 10
	c, err = w.js.UpdateConsumer(w.t.Context(), "DBRUNNER_JOBS_shop", cfg)
	require.NoError(w.t, err)
	return c
}

// TestOrderDoesNotDependOnTheConsumer: it delivers later messages first, and to several runners at a time.
func TestOrderDoesNotDependOnTheConsumer(t *testing.T) {
	t.Parallel()
	w, dsn := setup(t), dbtest.Postgres(t)
	shop := withDatabase("shop", "postgres", dsn, withOrdered("feed"))
	r0 := w.start(w.config("r0", shop, withAckWait(time.Second)))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "tables",
		`"statements":[{"sql":"CREATE TABLE effects (n serial PRIMARY KEY, job int)"},{"sql":"CREATE TABLE repaired (n int)"}]`).Status)
	r0.end(t)
	c := w.withoutAnOrder()
	for i := range 8 {
		w.feed(fmt.Sprint("a", i), i, i == 3)
	}
	batch, err := c.Fetch(4) // others get them after these
	require.NoError(t, err)
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		require.NoError(t, err)
		require.NoError(t, m.NakWithDelay(time.Duration(8-meta.Sequence.Stream%4)*2*time.Second))
	}
	for _, name := range []string{"r1", "r2", "r3"} {
		w.start(w.config(name, shop, withAckWait(time.Second)))
	}
	require.Equal(t, "failed", w.await("shop", "a3").Status)
	require.Equal(t, "0 1 2", w.applied())
	var failed *contract.FailedJob
	require.Eventually(t, func() bool {
		running, err := w.newClient().Running(t.Context(), client.RunningOptions{Databases: []string{"shop"}})
		if err != nil {
			return false
		}
		for _, j := range running.Jobs {
			if j.State == contract.JobAwaitingResume && j.JobID == "a3" {
				failed = &contract.FailedJob{Sequence: j.Sequence, QueuedAt: j.QueuedAt}
			}
		}
		return failed != nil
	}, testTimeout, 50*time.Millisecond)
	time.Sleep(2 * time.Second) // by the clock: longer than ack_wait, and no runner passes it
	require.Equal(t, "0 1 2", w.applied())
	w.resumes(failed.Sequence, failed.QueuedAt)
	w.awaitEmpty("shop")
	require.Equal(t, "0 1 2 4 5 6 7", w.applied())
}

// TestAMessageThatItsConsumerHasLeftBehind comes before the ones that the consumer delivers, all the same.
func TestAMessageThatItsConsumerHasLeftBehind(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withOrdered("feed")), withAckWait(time.Second)))
	w.feedTables()
	_, err := w.state().Put(t.Context(), "pause.shop.queue.feed", nil)
	require.NoError(t, err)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return len(h.Pauses) == 1 })
	require.Eventually(t, func() bool { // its last request is over: it would get the message that the consumer is to leave behind
		c, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "queue_feed")
		return err == nil && c.CachedInfo().NumWaiting == 0
	}, testTimeout, 20*time.Millisecond)
	w.feed("a1", 1, false)
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	streamConfig := stream.CachedInfo().Config
	streamConfig.Subjects = append(slices.Clone(streamConfig.Subjects), "dbrunner.queues.shop.feed.skipped")
	_, err = w.js.UpdateStream(t.Context(), streamConfig)
	require.NoError(t, err)
	c, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "queue_feed")
	require.NoError(t, err)
	cfg := c.CachedInfo().Config
	filters := cfg.FilterSubject
	cfg.FilterSubject, cfg.FilterSubjects = "dbrunner.queues.shop.feed.skipped", nil
	c, err = w.js.UpdateConsumer(t.Context(), "DBRUNNER_JOBS_shop", cfg)
	require.NoError(t, err)
	_, err = w.js.Publish(t.Context(), "dbrunner.queues.shop.feed.skipped", nil)
	require.NoError(t, err)
	skipped, err := c.Next()
	require.NoError(t, err)
	require.NoError(t, skipped.DoubleAck(t.Context()))
	cfg.FilterSubject = filters
	_, err = w.js.UpdateConsumer(t.Context(), "DBRUNNER_JOBS_shop", cfg)
	require.NoError(t, err)
	for i := range 3 {
		w.feed(fmt.Sprint("a", i+2), i+2, false)
	}
	require.NoError(t, w.state().Delete(t.Context(), "pause.shop.queue.feed"))
	w.awaitEmpty("shop")
	require.Equal(t, "1 2 3 4", w.applied())
	require.NotZero(t, r.logs.FilterMessage("redelivering orphan message").Len())
}

// TestAFailedJobStaysThroughRestarts of runners and of NATS, and for as long as "-held-for" says.
func TestAFailedJobStaysThroughRestarts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	shop := withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withOrdered("feed"))
	r := w.start(w.config("r0", shop, withAckWait(time.Second)))
	w.feedTables()
	w.feed("f", 1, true)
	w.feed("g", 2, false)
	failed := w.awaitFailed("r0", "f")
	for i := range *restarts {
		r.end(t)
		if i%4 == 3 {
			w.node.Restart()
		}
		name := fmt.Sprint("r", i+1)
		r = w.start(w.config(name, shop, withAckWait(time.Second)))
		require.Equal(t, failed.Sequence, w.awaitFailed(name, "f").Sequence)
	}
	time.Sleep(*heldFor) // by the clock: nothing happens
	require.Empty(t, w.applied())
	require.Nil(t, w.stored("shop", "g"))
	w.resumes(failed.Sequence, failed.QueuedAt)
	w.awaitEmpty("shop")
	require.Equal(t, "2", w.applied())
	require.Equal(t, "failed", w.await("shop", "f").Status)
}

// restarts and heldFor of TestAFailedJobStaysThroughRestarts.
var (
	restarts = flag.Int("restarts", 8, "restarts of runners while a job keeps an ordered queue waiting")
	heldFor  = flag.Duration("held-for", 0, "how long it keeps the queue waiting after that")
)

// TestARunnerWithoutItsDatabaseDoesNotStopTheQueue, although it reaches NATS, and has the first job when it loses the database.
func TestARunnerWithoutItsDatabaseDoesNotStopTheQueue(t *testing.T) {
	t.Parallel()
	w, dsn := setup(t), dbtest.Postgres(t)
	server, err := url.Parse(dsn)
	require.NoError(t, err)
	proxy := cutproxy.New(t, server.Host)
	runner := func(name, dsn string) *runner {
		return w.start(w.config(name, withDatabase("shop", "postgres", dsn, withOrdered("feed")), withAckWait(time.Second),
			func(cfg *config.Config) { cfg.Worker.UnreachableGrace = 500 * time.Millisecond }))
	}
	r1 := runner("r1", proxy.URL(dsn))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "tables",
		`"statements":[{"sql":"CREATE TABLE effects (n serial PRIMARY KEY, job int)"},{"sql":"CREATE TABLE repaired (n int)"}]`).Status)
	_, err = w.state().Put(t.Context(), "pause.shop.queue.feed", nil)
	require.NoError(t, err)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return len(h.Pauses) == 1 })
	for i := range 3 {
		w.feed(fmt.Sprint("a", i), i, false)
	}
	proxy.Refuse(true)
	proxy.CutAll()
	require.NoError(t, w.state().Delete(t.Context(), "pause.shop.queue.feed"))
	require.Eventually(t, func() bool { return r1.logs.FilterMessage("resumed").Len() > 0 }, testTimeout, 10*time.Millisecond)
	runner("r2", dsn)
	w.awaitEmpty("shop")
	require.Equal(t, "0 1 2", w.applied())
}

// TestAnIDIsFreeAfterTheRetention although its ledger row is still there, in a queue or not, and not before.
func TestAnIDIsFreeAfterTheRetention(t *testing.T) {
	t.Parallel()
	for name, connection := range map[string]func() string{
		"postgres": func() string { return dbtest.Postgres(t) }, "sqlite": func() string { return filepath.Join(t.TempDir(), "shop.db") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", withDatabase("shop", name, connection(), withOrdered("feed"), func(d *config.Database) {
				d.Ledger.Retention, d.Ledger.SweepInterval = 3*time.Second, 24*time.Hour
			}), func(cfg *config.Config) {
				cfg.Topology.Results.MinAge, cfg.Topology.Results.MaxAge = time.Second, 3*time.Second
			}))
			require.Equal(t, "succeeded", w.do("shop", "transaction", "tables", `"statements":[{"sql":"CREATE TABLE effects (n INTEGER, job INTEGER)"}]`).Status)
			insert := func(n int) string {
				return fmt.Sprintf(`"statements":[{"sql":"INSERT INTO effects VALUES ((SELECT count(*) FROM effects), %d)"}]`, n)
			}
			w.publish("shop", "transaction", `{"id":"plain",`+insert(1)+`}`)
			w.submit("shop", "feed", "transaction", "queued", insert(2))
			require.Equal(t, "succeeded", w.await("shop", "plain").Status)
			require.Equal(t, "succeeded", w.await("shop", "queued").Status)
			w.awaitEmpty("shop")
			recorded := time.Now()
			w.publish("shop", "transaction", `{"id":"plain",`+insert(1)+`}`) // a duplicate
			w.awaitEmpty("shop")
			require.Less(t, time.Since(recorded), 3*time.Second, "the machine is too slow for this test")
			time.Sleep(time.Until(recorded.Add(3100 * time.Millisecond))) // by the clock: the retention
			again := func(queue, id, rest string) {
				subject := "dbrunner.jobs.shop.transaction"
				if queue != "" {
					subject = "dbrunner.queues.shop." + queue + ".transaction"
				}
				_, err := w.js.Publish(t.Context(), subject, []byte(`{"id":"`+id+`",`+rest+`}`))
				require.NoError(t, err)
			}
			again("", "plain", insert(3))
			again("feed", "queued", insert(4))
			again("feed", "after", insert(5))
			w.awaitEmpty("shop")
			got := w.do("shop", "query", "jobs", `"sql":"SELECT job FROM effects ORDER BY job"`)
			require.Len(t, got.Rows.([]any), 5, "each has one effect: %v", got.Rows)
			again("feed", "queued", insert(4)) // the new row answers
			w.awaitEmpty("shop")
			require.Len(t, w.do("shop", "query", "jobs2", `"sql":"SELECT job FROM effects ORDER BY job"`).Rows.([]any), 5)
		})
	}
}

// TestWhatAnOrderedQueueRejects stays at its head as any failure does, with its ledger row.
func TestWhatAnOrderedQueueRejects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withOrdered("feed"))))
	w.feedTables()
	for id, c := range map[string]struct{ rest, code string }{
		"effect": {`"effect":"at_least_once","statements":[{"sql":"INSERT INTO effects (job) VALUES (1)"}]`, "effect_not_allowed"},
		"reply":  {`"answer":"reply","reply_to":"dbrunner.replies.shop.x","statements":[{"sql":"INSERT INTO effects (job) VALUES (1)"}]`, "invalid_value"},
		"key":    {`"statement":[]`, ""},
		"twice":  {`"statements":[],"statements":[]`, ""},
	} {
		_, err := w.js.Publish(t.Context(), "dbrunner.queues.shop.feed.transaction", []byte(`{"id":"`+id+`",`+c.rest+`}`))
		require.NoError(t, err)
		failed := w.awaitFailed("r1", id)
		require.Equal(t, contract.Rejected, failed.Status)
		if c.code != "" {
			require.Equal(t, c.code, failed.Code)
		}
		require.Equal(t, "rejected", w.await("shop", id).Status)
		answer := w.request("result.shop."+id, "")
		require.Empty(t, answer.code, answer.text)
		w.resumes(failed.Sequence, failed.QueuedAt)
		w.awaitEmpty("shop")
	}
	_, err := w.newClient().Submit(t.Context(), &client.Job{Database: "shop", Queue: "feed", Kind: "query", Body: []byte(`{}`)})
	require.ErrorIs(t, err, client.ErrNoStream)
	require.Empty(t, w.applied())
}

// TestACancelledJobLeavesAnOrderedQueue when it is its turn, also after a pause.
func TestACancelledJobLeavesAnOrderedQueue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withOrdered("feed"))))
	w.feedTables()
	_, err := w.state().Put(t.Context(), "pause.shop.queue.feed", nil)
	require.NoError(t, err)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return len(h.Pauses) == 1 })
	for i := range 3 {
		w.feed(fmt.Sprint("a", i), i, false)
	}
	w.cancel(t, "shop", "a1", "1s")
	require.NoError(t, w.state().Delete(t.Context(), "pause.shop.queue.feed"))
	w.awaitEmpty("shop")
	require.Equal(t, "0 2", w.applied())
	require.Equal(t, "cancelled", w.await("shop", "a1").Status)
}

// BenchmarkOrderedQueue is a job of a queue that runs one job at a time, ordered or not, with others pending behind it.
func BenchmarkOrderedQueue(b *testing.B) {
	for name, queue := range map[string]func(*config.Database){"ordered": withOrdered("feed"), "one slot": withQueue("feed", 1, 1)} {
		b.Run(name, func(b *testing.B) {
			node := bustest.Server(b)
			nc, js := bustest.Plain(b, node.ClientURL())
			w := &world{t: b, node: node, nc: nc, js: js}
			cfg := w.config("bench", withDatabase("shop", "postgres", dbtest.Postgres(b), queue))
			r := w.start(cfg)
			require.Equal(b, "succeeded", w.do("shop", "transaction", "tables", `"statements":[{"sql":"CREATE TABLE effects (n serial PRIMARY KEY, job int)"}]`).Status)
			r.end(b)
			for i := range b.N {
				_, err := w.js.PublishAsync("dbrunner.queues.shop.feed.transaction", fmt.Appendf(nil, `{"id":"b%d","statements":[{"sql":"INSERT INTO effects (job) VALUES (%[1]d)"}]}`, i))
				require.NoError(b, err)
			}
			<-w.js.PublishAsyncComplete()
			last, err := w.nc.SubscribeSync(fmt.Sprintf("dbrunner.results.shop.b%d", b.N-1))
			require.NoError(b, err)
			w.start(cfg)
			_, err = last.NextMsg(testTimeout)
			require.NoError(b, err)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
