package bustest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/topology"
)

// Database is the name of the database in Topology.
const Database = "demo"

// Bundle is a server, a runner's connection with its topology, and a plain client as upstream systems have it.
type Bundle struct {
	Node  *Node
	Conn  *bus.Conn
	Plain *nats.Conn
	JS    jetstream.JetStream
	Logs  *observer.ObservedLogs
}

// Setup starts a server and connects to it, with the streams and consumers of Topology.
func Setup(t *testing.T) *Bundle {
	t.Helper()
	return SetupOn(t, Server(t), Topology())
}

// SetupOn is Setup on a server and with a topology of the test's own.
func SetupOn(t *testing.T, node *Node, top topology.Topology) *Bundle {
	t.Helper()
	b := &Bundle{Node: node}
	b.Conn, b.Logs = Connect(t, node.ClientURL())
	b.Plain, b.JS = Plain(t, node.ClientURL())
	require.NoError(t, topology.Manage(t.Context(), b.Conn, top))
	return b
}

// Connect connects as a runner named tester, whose log it returns; change may change the options. It ends with the test.
func Connect(t *testing.T, url string, change ...func(*bus.Options)) (*bus.Conn, *observer.ObservedLogs) {
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

// Topology is one database with three lanes.
func Topology() topology.Topology {
	return topology.Topology{
		Databases: []topology.Database{{
			Name: Database,
			Lanes: []topology.Lane{
				{Name: "work", Kinds: []string{"query", "transaction"}},
				{Name: "migration", Kinds: []string{"migration"}, MaxAckPending: 1},
				{Name: "health", Kinds: []string{"health"}},
			},
		}},
	}
}

// Publish publishes n jobs and returns when the stream has them all.
func (b *Bundle) Publish(t *testing.T, kind string, n int) {
	t.Helper()
	PublishFrom(t, b.JS, kind, 0, n)
}

// PublishFrom publishes the jobs numbered from to from+n-1, with their numbers as bodies.
func PublishFrom(t *testing.T, js jetstream.JetStream, kind string, from, n int) {
	t.Helper()
	futures := make([]jetstream.PubAckFuture, 0, n)
	for i := from; i < from+n; i++ {
		f, err := js.PublishAsync("dbrunner.jobs."+Database+"."+kind, fmt.Appendf(nil, "%d", i))
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

// AwaitEmpty waits until the queue has no messages left.
func (b *Bundle) AwaitEmpty(t *testing.T) {
	t.Helper()
	AwaitEmpty(t, b.JS)
}

// AwaitEmpty waits until the queue of Database has no messages left.
func AwaitEmpty(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	empty := func() bool {
		s, err := js.Stream(context.Background(), "DBRUNNER_JOBS_"+Database)
		return err == nil && s.CachedInfo().State.Msgs == 0
	}
	if !assert.Eventually(t, empty, 30*time.Second, 10*time.Millisecond) {
		s, err := js.Stream(t.Context(), "DBRUNNER_JOBS_"+Database)
		require.NoError(t, err)
		require.FailNow(t, "messages stay in the queue", "%+v\n%+v", s.CachedInfo().State, ConsumerInfo(t, js, "work"))
	}
}

// ConsumerInfo describes a lane's consumer of Database.
func ConsumerInfo(t *testing.T, js jetstream.JetStream, lane string) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := js.Consumer(t.Context(), "DBRUNNER_JOBS_"+Database, lane)
	require.NoError(t, err)
	return c.CachedInfo()
}
