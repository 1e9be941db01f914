package crash

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// ordered is a world with the ordered queue feed, and a table in which each job notes the job whose effect it sees as the last one.
func ordered(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.order()
	return w
}

// order gives database shop the ordered queue feed and its tables.
func (w *world) order() {
	w.t.Helper()
	w.set("SHOP_QUEUES=feed", "SHOP_QUEUES_FEED_ORDERED=true")
	w.exec(`CREATE TABLE chain (job int PRIMARY KEY, seen int NOT NULL); CREATE TABLE repaired (job int)`)
}

// feed publishes a job of the queue. One that fails does so after its effect, until it is repaired.
func (w *world) feed(n int, fails bool, more string) {
	w.t.Helper()
	last := ""
	if fails {
		last = fmt.Sprintf(`,{"sql":"UPDATE repaired SET job = job WHERE job = %d","expect_rows":1}`, n)
	}
	w.publishTo("queues.shop.feed.transaction", fmt.Sprintf(
		`{"id":"o%d","statements":[{"sql":"INSERT INTO chain SELECT %[1]d, coalesce(max(job), -1) FROM chain"}%s%s]}`, n, more, last))
}

// first returns the queue's first message; nil: the queue is empty.
func (w *world) first(ctx context.Context) (sequence uint64, stored time.Time, found bool) {
	stream, err := w.js.Stream(ctx, "DBRUNNER_JOBS_shop")
	if err != nil {
		return 0, time.Time{}, false
	}
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return 0, time.Time{}, false
	}
	m, err := stream.GetMsg(ctx, info.State.FirstSeq)
	if err != nil {
		return 0, time.Time{}, false
	}
	return m.Sequence, m.Time, true
}

// release stores the operator's record for the queue's first message.
func (w *world) release(ctx context.Context) {
	sequence, stored, found := w.first(ctx)
	if !found {
		return
	}
	record, err := contract.EncodeResume(contract.QueueResume{Sequence: sequence, QueuedAt: stored})
	if err != nil {
		return
	}
	if kv, err := w.js.KeyValue(ctx, "DBRUNNER_STATE"); err == nil {
		_, _ = kv.Put(ctx, contract.ResumeKey("shop", "feed"), record)
	}
}

// requireChain requires that each of the jobs that were not to fail has its effect, and has seen that of the one before.
func (w *world) requireChain(jobs int, failed func(int) bool) {
	w.t.Helper()
	last := -1
	for n := range jobs {
		if failed(n) {
			continue
		}
		var seen int
		require.NoError(w.t, w.db.QueryRowContext(w.t.Context(), fmt.Sprint("SELECT seen FROM chain WHERE job = ", n)).Scan(&seen), "job %d", n)
		require.Equal(w.t, last, seen, "job %d", n)
		last = n
	}
	var rows int
	require.NoError(w.t, w.db.QueryRowContext(w.t.Context(), `SELECT count(*) FROM chain WHERE seen >= job`).Scan(&rows))
	require.Zero(w.t, rows)
}

// Promise: wherever the runner of an ordered queue dies, the effects are in the order of the stream, each once, and a failed job keeps the queue
// waiting until it is released.
func TestOrderedQueueKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, place := range append([]string{"turn", "turn:3", "after_commit:2", "awaiting_resume", "resumed"}, places...) {
		eachServer(t, place, func(t *testing.T, w *world) {
			w.order()
			fails := func(n int) bool { return n == 2 }
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			for n := range 5 {
				w.feed(n, fails(n), "")
			}
			if place == "resumed" {
				require.Equal(t, "failed", w.stored("o2").Status)
				w.release(t.Context())
			}
			first.died()
			w.start("second")
			require.Equal(t, "failed", w.stored("o2").Status)
			time.Sleep(ackWait + ackWait/2) // by the clock: nothing happens
			if place != "resumed" {
				require.Nil(t, w.lookup("o3"), "nothing behind a failed job starts")
				w.release(t.Context())
			}
			w.drained()
			w.requireChain(5, fails)
		})
	}
}

// Promise: a runner that is frozen for longer than the ack wait, between its look at the queue and the start of the job or in the middle of the job,
// changes nothing in the order when it goes on.
func TestOrderedQueueFrozen(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"turn", "before_store"} {
		eachServer(t, place, func(_ *testing.T, w *world) {
			w.order()
			first := w.start("first", "DBRUNNER_FREEZE_AT="+place)
			w.serving()
			for n := range 5 {
				w.feed(n, false, "")
			}
			first.frozen()
			w.finishesWithout(first)
		})
	}
	t.Run("postgres/transaction", func(t *testing.T) {
		t.Parallel()
		w := ordered(t)
		first := w.start("first")
		w.serving()
		w.feed(0, false, `,{"sql":"SELECT pg_sleep(0.3)"}`)
		for n := 1; n < 5; n++ {
			w.feed(n, false, "")
		}
		w.sleeping("pg_sleep(0.3)")
		first.signal(syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond) // by the clock: its session has nothing more to do than to wait for COMMIT
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()`)
		w.finishesWithout(first)
	})
}

// finishesWithout has another runner finish the five jobs of the queue while one is frozen, which then goes on.
func (w *world) finishesWithout(frozen *runner) {
	w.t.Helper()
	w.start("second")
	w.drained()
	frozen.thaw()
	time.Sleep(500 * time.Millisecond) // by the clock: nothing happens
	w.requireChain(5, func(int) bool { return false })
}

// jobsUnderFire and firings of TestOrderedQueueUnderFire.
var (
	jobsUnderFire = flag.Int("ordered-jobs", 36, "jobs of an ordered queue while runners are killed and frozen, and NATS restarts")
	fireSeed      = flag.Uint64("ordered-seed", 0, "seed of that; 0: another one each time")
)

// Promise: with three runners that are killed and frozen at random, and NATS restarting, and an operator who resumes, also twice and late, the
// order holds.
func TestOrderedQueueUnderFire(t *testing.T) {
	t.Parallel()
	w := ordered(t)
	seed := *fireSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	jobs := *jobsUnderFire
	fails := func(n int) bool { return n%17 == 11 }
	fleet := make([]*runner, 3)
	start := func(i int) { fleet[i] = w.start(fmt.Sprintf("runner%d-%d", i, random.IntN(1000))) }
	for i := range fleet {
		start(i)
	}
	w.serving()
	ctx, stop := context.WithCancel(t.Context())
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	operator := rand.New(rand.NewPCG(seed, 1))
	helpers.Go(func() {
		for ctx.Err() == nil {
			w.operate(ctx, time.Duration(operator.IntN(300))*time.Millisecond)
			time.Sleep(50 * time.Millisecond) // by the clock: between two looks of an operator
		}
	})
	for n := range jobs {
		w.feed(n, fails(n), `,{"sql":"SELECT pg_sleep(0.01)"}`)
		if n%12 != 11 {
			continue
		}
		switch i := random.IntN(len(fleet)); random.IntN(5) {
		case 0, 1:
			fleet[i].kill()
			start(i)
		case 2:
			fleet[i].signal(syscall.SIGSTOP)
			time.Sleep(ackWait + time.Duration(random.IntN(1000))*time.Millisecond) // by the clock: longer than the ack wait
			fleet[i].signal(syscall.SIGCONT)
		case 3:
			w.node.Restart()
		default:
			time.Sleep(200 * time.Millisecond) // by the clock: a time without a fault
		}
	}
	w.drainedWithin(2 * testTimeout)
	w.requireChain(jobs, fails)
}

// operate releases the queue's first message twice, if its job has failed, after a time in which that may have changed.
func (w *world) operate(ctx context.Context, late time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a request that a restart of NATS has lost gets no answer
	defer cancel()
	sequence, stored, found := w.first(ctx)
	if !found || !w.failedFirst(ctx, sequence, stored) {
		return
	}
	time.Sleep(late) // by the clock: perhaps too late
	w.release(ctx)
	w.release(ctx)
}

// failedFirst reports whether a message's job has a stored failure.
func (w *world) failedFirst(ctx context.Context, sequence uint64, stored time.Time) bool {
	stream, err := w.js.Stream(ctx, "DBRUNNER_JOBS_shop")
	if err != nil {
		return false
	}
	m, err := stream.GetMsg(ctx, sequence)
	if err != nil || !m.Time.Equal(stored) {
		return false
	}
	var n int
	if _, err := fmt.Sscanf(string(m.Data), `{"id":"o%d"`, &n); err != nil {
		return false
	}
	results, err := w.js.Stream(ctx, "DBRUNNER_RESULTS_shop")
	if err != nil {
		return false
	}
	r, err := results.GetLastMsgForSubject(ctx, fmt.Sprintf("dbrunner.results.shop.o%d", n))
	if err != nil {
		return false
	}
	head, err := contract.ReadHead(r.Data)
	return err == nil && head.Status == contract.Failed
}

// Promise: with leaders of the queue's consumer and of its stream that step down, and nodes of the cluster that restart, under three runners, the order
// holds: each job sees the effect of the one before it, and has one effect.
func TestOrderedQueueThroughLeaderChanges(t *testing.T) {
	t.Parallel()
	const jobs, each, stream, consumer = 60, 6, "DBRUNNER_JOBS_shop", "queue_feed"
	nodes := bustest.Cluster(t, 3)
	url := dbtest.Postgres(t)
	w := setup(t, nodes.URL(), url, url)
	w.set("RUNNER_TOPOLOGY_REPLICAS=3")
	w.order()
	for i := range 3 {
		w.start(fmt.Sprintf("runner%d", i))
	}
	w.serving()
	restart := func(leader func() *bustest.Node) {
		require.Eventually(t, func() bool { return leader() != nil }, testTimeout, tickEvery)
		leader().Restart()
		nodes.AwaitLeader()
	}
	disturb := []func(){
		func() { w.stepDown("CONSUMER.LEADER.STEPDOWN." + stream + "." + consumer) },
		func() { w.stepDown("STREAM.LEADER.STEPDOWN." + stream) },
		func() { restart(func() *bustest.Node { return nodes.ConsumerLeader(stream, consumer) }) },
		func() { restart(func() *bustest.Node { return nodes.StreamLeader(stream) }) },
		func() {
			w.stepDown("STREAM.LEADER.STEPDOWN." + stream)
			w.stepDown("CONSUMER.LEADER.STEPDOWN." + stream + "." + consumer)
		},
	}
	for n := range jobs {
		w.feed(n, false, `,{"sql":"SELECT pg_sleep(0.02)"}`)
		if n%each == each-1 {
			disturb[n/each%len(disturb)]()
		}
	}
	w.drainedWithin(2 * testTimeout)
	w.requireChain(jobs, func(int) bool { return false })
}

// stepDown makes another server lead a stream or a consumer. A leader that is being elected is asked again.
func (w *world) stepDown(request string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		m, err := w.conn.Request("$JS.API."+request, nil, 2*time.Second)
		var answer struct {
			Success bool `json:"success"`
		}
		return err == nil && json.Unmarshal(m.Data, &answer) == nil && answer.Success
	}, testTimeout, tickEvery, request)
}
