package intake_test

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
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/report"
)

// worker takes messages, acknowledges them and gives the slot back, and notes how often each number came.
type worker struct {
	mu   sync.Mutex
	seen map[int]int
}

func (w *worker) serve(r *bustest.Running, stop <-chan struct{}) {
	for {
		select {
		case m := <-r.Got:
			n, _ := strconv.Atoi(string(m.Data()))
			w.mu.Lock()
			w.seen[n]++
			w.mu.Unlock()
			_ = m.Ack() // a lost one comes again
			r.Credits <- 1
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
func underLoad(t *testing.T, url string, b *bustest.Bundle, disturb func()) *worker {
	t.Helper()
	w := &worker{seen: make(map[int]int)}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		conn, _ := bustest.Connect(t, url, func(o *bus.Options) { o.Instance = fmt.Sprintf("runner%d", i) })
		r := run(t, conn, "work", 20)
		wg.Go(func() { w.serve(r, stop) })
	}
	acknowledged := make(chan int, 1)
	publishing, quit := context.WithCancel(t.Context())
	go func() { acknowledged <- publishUntil(publishing, b.Conn) }()
	require.Eventually(t, func() bool { return w.distinct() > 200 }, 30*time.Second, time.Millisecond)
	disturb()
	before := w.distinct()
	require.Eventually(t, func() bool { return w.distinct() > before+200 }, 60*time.Second, time.Millisecond,
		"nothing moves after the disturbance")
	quit()
	n := <-acknowledged
	require.Eventually(t, func() bool { return w.distinct() >= n }, 60*time.Second, 5*time.Millisecond,
		"published %d, seen %d", n, w.distinct())
	bustest.AwaitEmpty(t, b.JS)
	close(stop)
	wg.Wait()
	return w
}

// publishUntil publishes numbers, each until the stream has it, and returns how many it has.
func publishUntil(ctx context.Context, conn *bus.Conn) int {
	run := nuid.Next()
	for n := 0; ; {
		_, _, err := bus.PublishJob(context.Background(), conn, database, "query", run+strconv.Itoa(n), nil, []byte(strconv.Itoa(n)))
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
	b := bustest.Setup(t)
	underLoad(t, b.Node.ClientURL(), b, func() { b.Node.Restart() })
}

func TestConsumerDeletedUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	underLoad(t, b.Node.ClientURL(), b, func() {
		require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
		require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()))
	})
}

func clusterSetup(t *testing.T, change ...func(*topology.Topology)) (*bustest.Nodes, *bustest.Bundle) {
	t.Helper()
	c := bustest.Cluster(t, 3)
	top := bustest.Topology()
	top.Replicas = 3
	for _, f := range change {
		f(&top)
	}
	b := &bustest.Bundle{}
	b.Conn, b.Logs = bustest.Connect(t, c.URL())
	b.Plain, b.JS = bustest.Plain(t, c.URL())
	require.NoError(t, topology.Manage(t.Context(), b.Conn, top))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top), "what was created is what is wanted, on three nodes too")
	return c, b
}

func TestClusterUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t)
	const stream = "DBRUNNER_JOBS_demo"
	for name, disturb := range map[string]func(){
		"consumer step-down": func() { c.StepDownConsumer(b.Plain, stream, "work") },
		"stream step-down":   func() { c.StepDownStream(b.Plain, stream) },
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
	conn, _ := bustest.Connect(t, c.URL())
	top := bustest.Topology()
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	top.Replicas = 3
	require.ErrorContains(t, topology.Verify(t.Context(), conn, top), "num_replicas is 1, the configuration says 3")
	// Servers that have just met may take each other for offline for a moment: what was refused is applied again.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		changes, err := topology.Apply(t.Context(), conn, top, topology.ApplyOptions{})
		require.NoError(c, err)
		for _, change := range changes {
			require.True(c, change.Done, "%+v", change)
		}
	}, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, topology.Verify(t.Context(), conn, top))

	top.Replicas = 5
	changes, err := topology.Apply(t.Context(), conn, top, topology.ApplyOptions{})
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
	b := bustest.Setup(t)
	r := run(t, b.Conn, "work", 1)
	b.Publish(t, "query", 2)
	require.True(t, r.Next(t).First())
	b.Node.Restart()
	r.Credits <- 1
	m := r.Next(t) // stored before, and a single server may have lost the count of its deliveries
	require.Equal(t, uint64(2), m.Sequence())
	require.False(t, m.First())
	b.Publish(t, "query", 1)
	r.Credits <- 1
	require.True(t, r.Next(t).First())
}

func TestClusterRacingWritersHaveOneWinner(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t)
	conns := []*bus.Conn{b.Conn}
	for i, n := range c.Nodes {
		conn, _ := bustest.Connect(t, n.ClientURL(), func(o *bus.Options) { o.Instance = fmt.Sprintf("runner%d", i) })
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
				_, _ = b.Plain.Request("$JS.API.STREAM.LEADER.STEPDOWN.DBRUNNER_RESULTS_demo", nil, time.Second)
			}
		}
	})
	bustest.RaceWriters(t, conns, 400, 4)
	close(stop)
	wg.Wait()
}

func TestClusterDrainRequeues(t *testing.T) {
	t.Parallel()
	c, b := clusterSetup(t, func(top *topology.Topology) { top.AckWait = time.Minute })
	conn, _ := bustest.Connect(t, c.Nodes[0].ClientURL())
	bustest.PublishFrom(t, b.JS, "query", 0, 2000)
	second := 0
	for range 10 {
		r := run(t, conn, "work", 50)
		r.Next(t)
		r.Stop(t)
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
		case m := <-r.Got:
			require.NoError(t, m.Ack())
			got++
		case <-deadline:
			require.FailNow(t, "messages were lost at the drain", "got %d", got)
		}
	}
}

func TestSilentConsumerIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	const stream = "DBRUNNER_JOBS_demo"
	config := bustest.ConsumerInfo(t, b.JS, "work").Config
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), stream, "work"))
	config.MaxWaiting = 1
	_, err := b.JS.CreateConsumer(t.Context(), stream, config)
	require.NoError(t, err)
	// Another requester's request takes the only place: the server drops ours without a word.
	request := []byte(`{"batch":1,"expires":2000000000}`)
	require.NoError(t, b.Plain.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+".work", b.Plain.NewInbox(), request))
	sub, err := b.Plain.SubscribeSync(b.Plain.NewInbox())
	require.NoError(t, err)
	require.NoError(t, b.Plain.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+".work", sub.Subject, request))
	require.NoError(t, b.Plain.Flush())
	require.Eventually(t, func() bool { return bustest.ConsumerInfo(t, b.JS, "work").NumWaiting == 1 }, 5*time.Second, time.Millisecond)

	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	opened.ShortenTimes(200 * time.Millisecond)
	r := bustest.Start(t, opened, 1)
	require.Eventually(t, func() bool { return opened.State().Recoveries > 0 }, 10*time.Second, time.Millisecond)
	require.NotEmpty(t, b.Logs.FilterField(zap.String("reason", "the consumer is silent")).All())
	_, err = sub.NextMsg(5 * time.Second) // the other request has expired: there is a place
	require.NoError(t, err)
	b.Publish(t, "query", 1)
	require.NoError(t, r.Next(t).Ack())
}

func TestRequestsAreRenewedWhenTheyExpire(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	opened.ShortenTimes(400 * time.Millisecond) // a request lives for four seconds; a busy machine may stop a heartbeat for one
	r := bustest.Start(t, opened, 3)
	time.Sleep(12400 * time.Millisecond) // by the clock: three lives of a request, at whose end nothing may happen
	require.Equal(t, intake.Pulling, opened.State().Phase)
	require.Zero(t, opened.State().Recoveries)
	b.Publish(t, "query", 3)
	for range 3 {
		require.NoError(t, r.Next(t).Ack())
	}
	require.Zero(t, opened.State().Requeued)
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
	admin, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, topology.Manage(t.Context(), admin, bustest.Topology()))
	conn, logs := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "runner", "r" })
	require.True(t, conn.State().Healthy())
	r := run(t, conn, "work", 1) // may look, may not pull
	require.Eventually(t, func() bool { return len(conn.State().Denied) > 0 }, 10*time.Second, time.Millisecond)
	require.False(t, conn.State().Healthy())
	require.Contains(t, conn.State().Denied[0], "$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_demo.work")
	require.NotEmpty(t, logs.FilterMessageSnippet("NATS refused a subject; permission missing").All())
	require.Eventually(t, func() bool {
		s := r.Intake.State()
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
				"$JS.API.STREAM.INFO.KV_DBRUNNER_STATE", "$JS.API.STREAM.MSG.GET.KV_DBRUNNER_STATE",
				"$JS.API.STREAM.INFO.KV_DBRUNNER_SCHEDULES", "$JS.API.STREAM.INFO.DBRUNNER_AUDIT",
				"$JS.API.CONSUMER.INFO.DBRUNNER_JOBS_demo.*",
				"$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_demo.*", "$JS.ACK.DBRUNNER_JOBS_demo.>",
				"$JS.API.STREAM.MSG.GET.DBRUNNER_RESULTS_demo", "$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_demo",
				"dbrunner.store.demo.*", "dbrunner.dead.demo.>", "dbrunner.health.>", "_INBOX.>",
			}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_dbrunner_tester.>", "dbrunner.control.>", "dbrunner.state.pause.>"}},
		}},
	))
	admin, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, topology.Manage(t.Context(), admin, bustest.Topology()))
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "runner", "r" })
	require.NoError(t, topology.Verify(t.Context(), conn, bustest.Topology()))
	bustest.WatchCancellations(t, conn)
	bustest.WatchPauses(t, conn)
	require.NoError(t, control.RequestCancel(t.Context(), conn, database, "other", nil))
	_, _, err := bus.PublishJob(t.Context(), admin, database, "query", "a", nil, []byte("1"))
	require.NoError(t, err)
	r := run(t, conn, "work", 1)
	m := r.Next(t)
	require.NoError(t, m.InProgress(t.Context()))
	verdict, err := results.Of(conn, database).Store(t.Context(), "a", []byte("r"))
	require.NoError(t, err)
	require.Equal(t, report.Stored, verdict)
	_, err = results.Of(conn, database).StoredResult(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, conn.Reply("_INBOX.x.y", []byte("r")))
	require.NoError(t, deadletters.Publish(t.Context(), conn, database, "query", "s1_x", nil, []byte("1")))
	heartbeats, err := bus.RunnerHeartbeats(conn, "tester")
	require.NoError(t, err)
	for range 2 {
		_, err = heartbeats.Publish(t.Context(), []byte("{}"))
		require.NoError(t, err)
	}
	_, err = bus.ReadLag(t.Context(), conn, database, "work")
	require.NoError(t, err)
	require.NoError(t, m.AckConfirmed(t.Context()))
	require.True(t, conn.State().Healthy(), "%v", conn.State().Denied)
}

func TestAcknowledgementsInTheNewShape(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) {
		o.FeatureFlags = map[string]bool{server.FeatureFlagJsAckFormatV2: true}
	})
	b := bustest.SetupOn(t, node, bustest.Topology())
	b.Publish(t, "query", 2)
	r := run(t, b.Conn, "work", 2)
	m := r.Next(t)
	require.Equal(t, uint64(1), m.Sequence())
	require.True(t, m.First())
	require.NoError(t, m.Nak(0))
	require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
	r.Credits <- 2
	m = r.Next(t)
	require.Equal(t, uint64(1), m.Sequence())
	require.Equal(t, uint64(2), m.Deliveries())
	require.NoError(t, m.AckConfirmed(t.Context()))
	b.AwaitEmpty(t)
}

func TestMaxAckPendingOfTheMigrationLane(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "migration", 3)
	other, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance = "other" })
	one, two := run(t, b.Conn, "migration", 4), run(t, other, "migration", 4)
	for range 3 { // one in the whole fleet
		var m *intake.Message
		select {
		case m = <-one.Got:
		case m = <-two.Got:
		case <-time.After(10 * time.Second):
			require.FailNow(t, "no message")
		}
		require.Empty(t, one.Got)
		require.Empty(t, two.Got)
		require.NoError(t, m.AckConfirmed(t.Context()))
	}
	b.AwaitEmpty(t)
}
