package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

// watched runs the reading of requests to cancel until the test's end.
func watched(t *testing.T, conn *bus.Conn) *bus.Cancellations {
	t.Helper()
	n := conn.Cancellations([]string{database})
	follow(t, n)
	return n
}

func follow(t *testing.T, n *bus.Cancellations) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.NoError(t, n.Ready(t.Context()))
}

func TestCancellationsCountForWhatWasStoredBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	early := time.Now()
	require.NoError(t, b.conn.RequestCancel(t.Context(), database, "early", []byte(`{}`)))
	n := watched(t, b.conn)
	require.True(t, n.Requested(database, "early", early.Add(-time.Second)), "what was kept before is read before Ready")
	require.False(t, n.Requested(database, "early", time.Now().Add(time.Second)), "a message that is stored later")
	require.False(t, n.Requested(database, "other", early.Add(-time.Second)))

	require.NoError(t, b.conn.RequestCancel(t.Context(), "elsewhere", "foreign", nil))
	require.NoError(t, b.conn.RequestCancel(t.Context(), database, "now", nil))
	<-n.Changed()
	require.Eventually(t, func() bool { return n.Requested(database, "now", early) }, time.Second, time.Millisecond, "it is told, not looked for")
	require.False(t, n.Requested("elsewhere", "foreign", early), "another database's")
	require.Equal(t, 2, n.Open())
	require.Equal(t, []string{database}, n.Added())
	require.Empty(t, n.Added())

	later := time.Now().Add(time.Millisecond)
	require.Eventually(t, func() bool {
		require.NoError(t, b.conn.RequestCancel(t.Context(), database, "early", nil))
		return n.Requested(database, "early", later)
	}, 5*time.Second, 10*time.Millisecond, "a request is renewed")

	for _, id := range []string{"", "a.b", "a b", "*"} {
		require.ErrorIs(t, b.conn.RequestCancel(t.Context(), database, id, nil), bus.ErrSubject, "%q", id)
	}
	require.ErrorIs(t, b.conn.RequestCancel(t.Context(), "a.b", "id", nil), bus.ErrSubject)
}

func TestCancellationsAreAnOrdinaryBucket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := watched(t, b.conn)
	kv, err := b.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), database+".one", nil)
	require.NoError(t, err)
	past := time.Now().Add(-time.Hour)
	require.Eventually(t, func() bool { return n.Requested(database, "one", past) }, 10*time.Second, time.Millisecond)
	require.NoError(t, kv.Delete(t.Context(), database+".one"))
	require.Eventually(t, func() bool { return !n.Requested(database, "one", past) && n.Open() == 0 }, 10*time.Second, time.Millisecond)
}

func TestCancellationsInADomain(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	conn, _ := connect(t, node.ClientURL(), func(o *bus.Options) { o.Domain = "hub" })
	require.NoError(t, conn.Manage(t.Context(), topology()))
	n := watched(t, conn)
	require.NoError(t, conn.RequestCancel(t.Context(), database, "one", nil))
	require.Eventually(t, func() bool { return n.Requested(database, "one", time.Now().Add(-time.Hour)) }, 10*time.Second, time.Millisecond)
}

func TestCancellationsAreForgottenAndBounded(t *testing.T) {
	t.Parallel()
	top := topology()
	top.Control = bus.ControlLimits{MaxAge: time.Second, MaxRequests: 3}
	b := setupOn(t, bustest.Server(t), top)
	n := watched(t, b.conn)
	for i := range 3 {
		require.NoError(t, b.conn.RequestCancel(t.Context(), database, fmt.Sprint("job", i), nil))
	}
	require.ErrorIs(t, b.conn.RequestCancel(t.Context(), database, "more", nil), bus.ErrStreamFull)
	require.Eventually(t, func() bool { return n.Open() == 3 }, 900*time.Millisecond, time.Millisecond)
	require.Eventually(t, func() bool { return n.Open() == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return b.conn.RequestCancel(t.Context(), database, "more", nil) == nil }, 10*time.Second, 50*time.Millisecond)
}

// TestTheBucketAloneForgetsCancellations: a request is open as long as the bucket has it, whatever the runner's clock says.
func TestTheBucketAloneForgetsCancellations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := watched(t, b.conn)
	stream, err := b.js.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
	require.NoError(t, err)
	past := time.Now().Add(-48 * time.Hour)
	request := func(id string) {
		require.NoError(t, b.conn.RequestCancel(t.Context(), database, id, nil))
		require.Eventually(t, func() bool { return n.Requested(database, id, past) }, 10*time.Second, time.Millisecond)
	}
	for _, id := range []string{"first", "second", "renewed"} {
		request(id)
	}
	request("first") // a renewed request moves to the end
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)))
	require.Eventually(t, func() bool { return !n.Requested(database, "second", past) }, 10*time.Second, time.Millisecond, "an operator purged it")
	require.True(t, n.Requested(database, "first", past))
	require.True(t, n.Requested(database, "renewed", past))
	require.NoError(t, stream.Purge(t.Context()))
	require.Eventually(t, func() bool { return n.Open() == 0 }, 10*time.Second, time.Millisecond)
	request("after")
}

// TestIntakeWaitsForCancellationsAfterTheLinkWasLost: a job that was cancelled meanwhile must not be begun.
func TestIntakeWaitsForCancellationsAfterTheLinkWasLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.conn.Cancellations([]string{database})
	r := b.run(t, "work", 10)
	b.publish(t, "query", 1)
	require.NoError(t, r.next(t).AckConfirmed(t.Context()))

	b.node.Restart()
	require.Eventually(t, func() bool { return r.intake.State().Phase == bus.Recovering && b.conn.State().Connected }, 20*time.Second, time.Millisecond)
	require.NoError(t, b.conn.RequestCancel(t.Context(), database, "q", nil))
	b.publish(t, "query", 1)
	select {
	case <-r.got:
		require.FailNow(t, "a message came before the requests to cancel were read")
	case <-time.After(500 * time.Millisecond):
	}
	follow(t, n)
	require.NoError(t, r.next(t).AckConfirmed(t.Context()))
	require.Equal(t, 1, n.Open())
}

func TestCancellationsOnACluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := bustest.Cluster(t, 3)
	top := topology()
	top.Replicas = 3
	b := setupOn(t, nodes.Nodes[0], top)
	other, _ := connect(t, nodes.Nodes[1].ClientURL())
	n := watched(t, b.conn)
	past := time.Now().Add(-time.Hour)
	for i := range 3 {
		id := fmt.Sprint("job", i)
		require.NoError(t, other.RequestCancel(t.Context(), database, id, nil))
		require.Eventually(t, func() bool { return n.Requested(database, id, past) }, 20*time.Second, time.Millisecond)
		s, err := b.js.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
		require.NoError(t, err)
		for _, node := range nodes.Nodes {
			if leader := s.CachedInfo().Cluster.Leader; node.Name() == leader && node != nodes.Nodes[1] {
				node.Restart()
			}
		}
	}
	require.Equal(t, 3, n.Open(), "nothing is forgotten over new leaders and links")
}

func TestCancellationsOfABucketThatWasDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := watched(t, b.conn)
	require.NoError(t, b.js.DeleteStream(t.Context(), "KV_DBRUNNER_CONTROL"))
	require.Eventually(t, func() bool {
		_, err := b.js.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "it is made again, as the topology is managed")
	require.NoError(t, b.conn.RequestCancel(t.Context(), database, "after", nil))
	assert.Eventually(t, func() bool { return n.Requested(database, "after", time.Now().Add(-time.Hour)) }, 20*time.Second, time.Millisecond)
	require.NoError(t, b.conn.Verify(t.Context(), topology()))
	_, err := b.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NotErrorIs(t, err, jetstream.ErrBucketNotFound)
}
