package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

func TestMain(m *testing.M) {
	// A node of nats-server 2.15.2 that is shut down while it opens a stream (restarts of a cluster do so) may leave that
	// stream's store behind, and with it the server's own clock. Neither is ours to end.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

const database = "demo"

// bundle is a server, a runner's connection with its topology, and a plain client as upstream systems have it.
type bundle struct {
	node  *bustest.Node
	conn  *bus.Conn
	plain *nats.Conn
	js    jetstream.JetStream
	logs  *observer.ObservedLogs
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return setupOn(t, bustest.Server(t), topology())
}

func setupOn(t *testing.T, node *bustest.Node, top bus.Topology) *bundle {
	t.Helper()
	b := &bundle{node: node}
	b.conn, b.logs = connect(t, node.ClientURL())
	b.plain, b.js = bustest.Plain(t, node.ClientURL())
	require.NoError(t, b.conn.Manage(t.Context(), top))
	return b
}

func connect(t *testing.T, url string, change ...func(*bus.Options)) (*bus.Conn, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	opts := bus.Options{URL: url, Instance: "tester", Logger: zap.New(core), ReconnectWait: 20 * time.Millisecond, ReconnectMaxWait: 100 * time.Millisecond}
	for _, f := range change {
		f(&opts)
	}
	conn, err := bus.Connect(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone already
	})
	return conn, logs
}

func topology() bus.Topology {
	return bus.Topology{
		Databases: []bus.DatabaseTopology{{
			Name: database,
			Lanes: []bus.LaneTopology{
				{Name: "work", Kinds: []string{"query", "transaction"}},
				{Name: "migration", Kinds: []string{"migration"}, MaxAckPending: 1},
				{Name: "health", Kinds: []string{"health"}},
			},
		}},
	}
}

// publish publishes n jobs and returns when the stream has them all.
func (b *bundle) publish(t *testing.T, kind string, n int) {
	t.Helper()
	publishFrom(t, b.js, kind, 0, n)
}

func publishFrom(t *testing.T, js jetstream.JetStream, kind string, from, n int) {
	t.Helper()
	futures := make([]jetstream.PubAckFuture, 0, n)
	for i := from; i < from+n; i++ {
		f, err := js.PublishAsync("dbrunner.jobs."+database+"."+kind, fmt.Appendf(nil, "%d", i))
		require.NoError(t, err)
		futures = append(futures, f)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "no answer to a publish")
		}
	}
}

// running is an intake that runs until stop or the test's end.
type running struct {
	intake  *bus.Intake
	credits chan int
	got     chan *bus.Message
	cancel  context.CancelFunc
	done    chan error
	once    sync.Once
}

func (b *bundle) run(t *testing.T, lane string, credits int) *running {
	t.Helper()
	return run(t, b.conn, lane, credits)
}

func run(t *testing.T, conn *bus.Conn, lane string, credits int) *running {
	t.Helper()
	intake, err := conn.OpenIntake(t.Context(), database, lane)
	require.NoError(t, err)
	intake.SweepEvery(2 * time.Second)
	return start(t, intake, credits)
}

func start(t *testing.T, intake *bus.Intake, credits int) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{
		intake: intake, credits: make(chan int, 1<<16), got: make(chan *bus.Message, 1<<16), cancel: cancel, done: make(chan error, 1),
	}
	if credits > 0 {
		r.credits <- credits
	}
	go func() { r.done <- intake.Run(ctx, r.credits, func(m *bus.Message) { r.got <- m }) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "the intake does not stop")
		}
	})
}

func (r *running) next(t *testing.T) *bus.Message {
	t.Helper()
	return r.within(t, 15*time.Second)
}

func (r *running) within(t *testing.T, limit time.Duration) *bus.Message {
	t.Helper()
	select {
	case m := <-r.got:
		return m
	case <-time.After(limit):
		require.FailNow(t, "no message", "state: %+v", r.intake.State())
		return nil
	}
}

// awaitEmpty waits until the queue has no messages left.
func (b *bundle) awaitEmpty(t *testing.T) {
	t.Helper()
	awaitEmpty(t, b.js)
}

func awaitEmpty(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	empty := func() bool {
		s, err := js.Stream(context.Background(), "DBRUNNER_JOBS_"+database)
		return err == nil && s.CachedInfo().State.Msgs == 0
	}
	if !assert.Eventually(t, empty, 30*time.Second, 10*time.Millisecond) {
		s, err := js.Stream(t.Context(), "DBRUNNER_JOBS_"+database)
		require.NoError(t, err)
		require.FailNow(t, "messages stay in the queue", "%+v\n%+v", s.CachedInfo().State, consumerInfo(t, js, "work"))
	}
}
