package bus_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

// worker takes messages, acknowledges them and gives the slot back, and notes how often each number came.
type worker struct {
	mu   sync.Mutex
	seen map[int]int
}

func (w *worker) serve(r *running, stop <-chan struct{}) {
	for {
		select {
		case m := <-r.got:
			n, _ := strconv.Atoi(string(m.Data()))
			w.mu.Lock()
			w.seen[n]++
			w.mu.Unlock()
			_ = m.Ack() // a lost one comes again
			r.credits <- 1
		case <-stop:
			return
		}
	}
}

func (w *worker) distinct() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// underLoad serves the work lane with two runners while disturb happens and publishes keep coming; every
// acknowledged publish must be seen.
func underLoad(t *testing.T, url string, b *bundle, disturb func()) *worker {
	t.Helper()
	w := &worker{seen: make(map[int]int)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		conn, _ := connect(t, url, func(o *bus.Options) { o.Instance = fmt.Sprintf("runner%d", i) })
		r := run(t, conn, "work", 20)
		wg.Go(func() { w.serve(r, stop) })
	}
	acknowledged := make(chan int, 1)
	publishing, quit := context.WithCancel(t.Context())
	go func() { acknowledged <- publishUntil(publishing, b.conn) }()
	require.Eventually(t, func() bool { return w.distinct() > 200 }, 30*time.Second, time.Millisecond)
	disturb()
	before := w.distinct()
	require.Eventually(t, func() bool { return w.distinct() > before+200 }, 60*time.Second, time.Millisecond,
		"nothing moves after the disturbance")
	quit()
	n := <-acknowledged
	require.Eventually(t, func() bool { return w.distinct() >= n }, 60*time.Second, 5*time.Millisecond,
		"published %d, seen %d", n, w.distinct())
	awaitEmpty(t, b.js)
	close(stop)
	wg.Wait()
	return w
}

// publishUntil publishes numbers, each until the stream has it, and returns how many it has.
func publishUntil(ctx context.Context, conn *bus.Conn) int {
	run := nuid.Next()
	for n := 0; ; {
		_, _, err := conn.PublishJob(context.Background(), database, "query", run+strconv.Itoa(n), nil, []byte(strconv.Itoa(n)))
		if err != nil { // no stream for a moment: publish the same again
			continue
		}
		n++
		if ctx.Err() != nil {
			return n
		}
	}
}

func TestRestartUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	underLoad(t, b.node.ClientURL(), b, func() { b.node.Restart() })
}

func TestConsumerDeletedUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	underLoad(t, b.node.ClientURL(), b, func() {
		require.NoError(t, b.js.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
		require.NoError(t, b.conn.Manage(t.Context(), topology()))
	})
}

func clusterSetup(t *testing.T, change ...func(*bus.Topology)) (*bustest.Nodes, *bundle) {
	t.Helper()
	c := bustest.Cluster(t, 3)
	top := topology()
	top.Replicas = 3
	for _, f := range change {
		f(&top)
	}
	b := &bundle{}
	b.conn, b.logs = connect(t, c.URL())
	b.plain, b.js = bustest.Plain(t, c.URL())
	require.NoError(t, b.conn.Manage(t.Context(), top))
	require.NoError(t, b.conn.Verify(t.Context(), top), "what was created is what is wanted, on three nodes too")
	return c, b
}

func TestClusterUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t)
	const stream = "DBRUNNER_JOBS_demo"
	for name, disturb := range map[string]func(){
		"consumer step-down": func() { c.StepDownConsumer(b.plain, stream, "work") },
		"stream step-down":   func() { c.StepDownStream(b.plain, stream) },
		"leader restart": func() {
			n := c.ConsumerLeader(stream, "work")
			require.NotNil(t, n)
			n.Restart()
			c.AwaitLeader()
		},
	} {
		// one after the other: each needs a whole cluster
		ok := t.Run(name, func(t *testing.T) { underLoad(t, c.URL(), b, disturb) })
		require.True(t, ok)
	}
}

func TestClusterReplicasAreChangedByApply(t *testing.T) {
	t.Parallel()
	c := bustest.Cluster(t, 3)
	conn, _ := connect(t, c.URL())
	top := topology()
	require.NoError(t, conn.Manage(t.Context(), top))
	top.Replicas = 3
	require.ErrorContains(t, conn.Verify(t.Context(), top), "num_replicas is 1, the configuration says 3")
	// Servers that have just met may take each other for offline for a moment: what was refused is applied again.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		changes, err := conn.Apply(t.Context(), top)
		require.NoError(c, err)
		for _, change := range changes {
			require.True(c, change.Done, "%+v", change)
		}
	}, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, conn.Verify(t.Context(), top))

	top.Replicas = 5
	changes, err := conn.Apply(t.Context(), top)
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	for _, change := range changes {
		require.False(t, change.Done)
		require.Contains(t, change.What, "start as many servers as there shall be replicas")
		require.NotContains(t, change.What, "delete it", "nothing of it is in the way")
	}
}

func TestMessagesOfAnOutageAreInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, "work", 1)
	b.publish(t, "query", 2)
	require.True(t, r.next(t).First())
	b.node.Restart()
	r.credits <- 1
	m := r.next(t) // stored before, and a single server may have lost the count of its deliveries
	require.Equal(t, uint64(2), m.Sequence())
	require.False(t, m.First())
	b.publish(t, "query", 1)
	r.credits <- 1
	require.True(t, r.next(t).First())
}

func TestClusterRacingWritersHaveOneWinner(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t)
	conns := []*bus.Conn{b.conn}
	for i, n := range c.Nodes {
		conn, _ := connect(t, n.ClientURL(), func(o *bus.Options) { o.Instance = fmt.Sprintf("runner%d", i) })
		conns = append(conns, conn)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(150 * time.Millisecond):
				_, _ = b.plain.Request("$JS.API.STREAM.LEADER.STEPDOWN.DBRUNNER_RESULTS_demo", nil, time.Second)
			}
		}
	})
	raceWriters(t, conns, 400, 4)
	close(stop)
	wg.Wait()
}

func TestClusterDrainHandsBack(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t, func(top *bus.Topology) { top.AckWait = time.Minute })
	conn, _ := connect(t, c.Nodes[0].ClientURL())
	publishFrom(t, b.js, "query", 0, 2000)
	second := 0
	for range 10 {
		r := run(t, conn, "work", 50)
		r.next(t)
		r.stop(t)
		for _, m := range drainInto(r) {
			require.NoError(t, m.Nak(0))
		}
		second++
	}
	// AckWait is a minute: what was lost on the way would show as missing for that long.
	r := run(t, conn, "work", 2000)
	deadline := time.After(50 * time.Second)
	for got := 0; got < 2000-10; {
		select {
		case m := <-r.got:
			require.NoError(t, m.Ack())
			got++
		case <-deadline:
			require.FailNow(t, "messages were lost at the drain", "got %d", got)
		}
	}
}

func TestSilentConsumerIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const stream = "DBRUNNER_JOBS_demo"
	config := consumerInfo(t, b.js, "work").Config
	require.NoError(t, b.js.DeleteConsumer(t.Context(), stream, "work"))
	config.MaxWaiting = 1
	_, err := b.js.CreateConsumer(t.Context(), stream, config)
	require.NoError(t, err)
	// Somebody else's request takes the only place: the server drops ours without a word.
	request := []byte(`{"batch":1,"expires":2000000000}`)
	require.NoError(t, b.plain.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+".work", b.plain.NewInbox(), request))
	sub, err := b.plain.SubscribeSync(b.plain.NewInbox())
	require.NoError(t, err)
	require.NoError(t, b.plain.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+".work", sub.Subject, request))
	require.NoError(t, b.plain.Flush())
	require.Eventually(t, func() bool { return consumerInfo(t, b.js, "work").NumWaiting == 1 }, 5*time.Second, time.Millisecond)

	intake, err := b.conn.OpenIntake(t.Context(), database, "work")
	require.NoError(t, err)
	intake.ShortenTimes(200 * time.Millisecond)
	r := start(t, intake, 1)
	require.Eventually(t, func() bool { return intake.State().Recoveries > 0 }, 10*time.Second, time.Millisecond)
	require.NotEmpty(t, b.logs.FilterField(zap.String("reason", "the consumer is silent")).All())
	_, err = sub.NextMsg(5 * time.Second) // the other request has expired: there is a place
	require.NoError(t, err)
	b.publish(t, "query", 1)
	require.NoError(t, r.next(t).Ack())
}

func TestRequestsAreRenewedWhenTheyExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	intake, err := b.conn.OpenIntake(t.Context(), database, "work")
	require.NoError(t, err)
	intake.ShortenTimes(100 * time.Millisecond) // a request lives for a second
	r := start(t, intake, 3)
	time.Sleep(3400 * time.Millisecond) // by the clock: three lives of a request, at whose end nothing may happen
	require.Equal(t, bus.Pulling, intake.State().Phase)
	require.Zero(t, intake.State().Recoveries)
	b.publish(t, "query", 3)
	for range 3 {
		require.NoError(t, r.next(t).Ack())
	}
	require.Zero(t, intake.State().Requeued)
}

func TestPermissionErrorsAreRemembered(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "runner", Password: "r", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.CONSUMER.INFO.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_dbrunner_tester.>"}},
		}},
	))
	admin, _ := connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, admin.Manage(t.Context(), topology()))
	conn, logs := connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "runner", "r" })
	require.True(t, conn.State().Healthy())
	r := run(t, conn, "work", 1) // may look, may not pull
	require.Eventually(t, func() bool { return len(conn.State().Denied) > 0 }, 10*time.Second, time.Millisecond)
	require.False(t, conn.State().Healthy())
	require.Contains(t, conn.State().Denied[0], "$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_demo.work")
	require.NotEmpty(t, logs.FilterMessageSnippet("permissions are too narrow").All())
	require.Eventually(t, func() bool {
		s := r.intake.State()
		return s.Recoveries > 0
	}, 20*time.Second, 10*time.Millisecond, "the silence is noticed")
}

func TestMinimalPermissionsSuffice(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "runner", Password: "r", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{
				"$JS.API.STREAM.INFO.DBRUNNER_JOBS_demo", "$JS.API.STREAM.INFO.DBRUNNER_RESULTS_demo",
				"$JS.API.STREAM.INFO.DBRUNNER_DEAD", "$JS.API.STREAM.INFO.DBRUNNER_HEALTH",
				"$JS.API.STREAM.INFO.KV_DBRUNNER_CONTROL", "$JS.API.STREAM.MSG.GET.KV_DBRUNNER_CONTROL", "$KV.DBRUNNER_CONTROL.demo.*",
				"$JS.API.STREAM.INFO.OBJ_DBRUNNER_ROWS", "$JS.API.STREAM.INFO.OBJ_DBRUNNER_PARAMS",
				"$JS.API.CONSUMER.INFO.DBRUNNER_JOBS_demo.*",
				"$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_demo.*", "$JS.ACK.DBRUNNER_JOBS_demo.>",
				"$JS.API.STREAM.MSG.GET.DBRUNNER_RESULTS_demo", "$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_demo",
				"dbrunner.store.demo.*", "dbrunner.dead.demo.>", "dbrunner.health.>", "_INBOX.>",
			}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_dbrunner_tester.>", "dbrunner.control.>"}},
		}},
	))
	admin, _ := connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, admin.Manage(t.Context(), topology()))
	conn, _ := connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "runner", "r" })
	require.NoError(t, conn.Verify(t.Context(), topology()))
	watched(t, conn)
	require.NoError(t, conn.RequestCancel(t.Context(), database, "other", nil))
	_, _, err := admin.PublishJob(t.Context(), database, "query", "a", nil, []byte("1"))
	require.NoError(t, err)
	r := run(t, conn, "work", 1)
	m := r.next(t)
	require.NoError(t, m.InProgress(t.Context()))
	verdict, err := conn.Results(database).Store(t.Context(), "a", []byte("r"))
	require.NoError(t, err)
	require.Equal(t, bus.Stored, verdict)
	_, err = conn.Results(database).StoredResult(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, conn.Reply("_INBOX.x.y", []byte("r")))
	require.NoError(t, conn.PublishDeadLetter(t.Context(), database, "query", "s1_x", nil, []byte("1")))
	beacon, err := conn.RunnerHeartbeats("tester")
	require.NoError(t, err)
	for range 2 {
		_, err = beacon.Publish(t.Context(), []byte("{}"))
		require.NoError(t, err)
	}
	_, err = conn.Lag(t.Context(), database, "work")
	require.NoError(t, err)
	require.NoError(t, m.AckConfirmed(t.Context()))
	require.True(t, conn.State().Healthy(), "%v", conn.State().Denied)
}

func TestAcknowledgementsInTheNewShape(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) {
		o.FeatureFlags = map[string]bool{server.FeatureFlagJsAckFormatV2: true}
	})
	b := setupOn(t, node, topology())
	b.publish(t, "query", 2)
	r := b.run(t, "work", 2)
	m := r.next(t)
	require.Equal(t, uint64(1), m.Sequence())
	require.True(t, m.First())
	require.NoError(t, m.Nak(0))
	require.NoError(t, r.next(t).AckConfirmed(t.Context()))
	r.credits <- 2
	m = r.next(t)
	require.Equal(t, uint64(1), m.Sequence())
	require.Equal(t, uint64(2), m.Deliveries())
	require.NoError(t, m.AckConfirmed(t.Context()))
	b.awaitEmpty(t)
}

func TestMaxAckPendingOfTheMigrationLane(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "migration", 3)
	other, _ := connect(t, b.node.ClientURL(), func(o *bus.Options) { o.Instance = "other" })
	one, two := b.run(t, "migration", 4), run(t, other, "migration", 4)
	for range 3 { // one in the whole fleet
		var m *bus.Message
		select {
		case m = <-one.got:
		case m = <-two.got:
		case <-time.After(10 * time.Second):
			require.FailNow(t, "no message")
		}
		require.Empty(t, one.got)
		require.Empty(t, two.got)
		require.NoError(t, m.AckConfirmed(t.Context()))
	}
	b.awaitEmpty(t)
}
