package control_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/topology"
)

const database = bustest.Database

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

func TestCancellationsCountForWhatWasStoredBefore(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	early := time.Now()
	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "early", []byte(`{}`)))
	n := bustest.WatchCancellations(t, b.Conn)
	require.True(t, n.Requested(database, "early", early.Add(-time.Second)), "what was kept before is read before Ready")
	require.False(t, n.Requested(database, "early", time.Now().Add(time.Second)), "a message that is stored later")
	require.False(t, n.Requested(database, "other", early.Add(-time.Second)))

	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, "elsewhere", "foreign", nil))
	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "now", nil))
	<-n.Changed()
	require.Eventually(t, func() bool { return n.Requested(database, "now", early) }, time.Second, time.Millisecond, "it is announced, not polled")
	require.False(t, n.Requested("elsewhere", "foreign", early), "another database's")
	require.Equal(t, 2, n.Open())
	require.Equal(t, []string{database}, n.Added())
	require.Empty(t, n.Added())

	later := time.Now().Add(time.Millisecond)
	require.Eventually(t, func() bool {
		require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "early", nil))
		return n.Requested(database, "early", later)
	}, 5*time.Second, 10*time.Millisecond, "a request is renewed")

	for _, id := range []string{"", "a.b", "a b", "*"} {
		require.ErrorIs(t, control.RequestCancel(t.Context(), b.Conn, database, id, nil), bus.ErrSubject, "%q", id)
	}
	require.ErrorIs(t, control.RequestCancel(t.Context(), b.Conn, "a.b", "id", nil), bus.ErrSubject)
}

func TestCancellationsAreAnOrdinaryBucket(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	n := bustest.WatchCancellations(t, b.Conn)
	kv, err := b.JS.KeyValue(t.Context(), "DBRUNNER_CONTROL")
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
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.Domain = "hub" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	n := bustest.WatchCancellations(t, conn)
	require.NoError(t, control.RequestCancel(t.Context(), conn, database, "one", nil))
	require.Eventually(t, func() bool { return n.Requested(database, "one", time.Now().Add(-time.Hour)) }, 10*time.Second, time.Millisecond)
}

func TestCancellationsAreForgottenAndBounded(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Control = topology.ControlLimits{MaxAge: 4 * time.Second, MaxRequests: 3}
	b := bustest.SetupOn(t, bustest.Server(t), top)
	n := bustest.WatchCancellations(t, b.Conn)
	for i := range 3 {
		require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, fmt.Sprint("job", i), nil))
	}
	require.ErrorIs(t, control.RequestCancel(t.Context(), b.Conn, database, "more", nil), bus.ErrStreamFull)
	require.Eventually(t, func() bool { return n.Open() == 3 }, 3*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return n.Open() == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return control.RequestCancel(t.Context(), b.Conn, database, "more", nil) == nil }, 10*time.Second, 50*time.Millisecond)
}

// TestTheBucketAloneForgetsCancellations: a request is open as long as the bucket has it, whatever the runner's clock says.
func TestTheBucketAloneForgetsCancellations(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	n := bustest.WatchCancellations(t, b.Conn)
	stream, err := b.JS.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
	require.NoError(t, err)
	past := time.Now().Add(-48 * time.Hour)
	request := func(id string) {
		require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, id, nil))
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

// TestIntakeWaitsForCancellationsAfterTheLinkWasLost: a job that was cancelled meanwhile must not be started.
func TestIntakeWaitsForCancellationsAfterTheLinkWasLost(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	n := control.NewCancellations(b.Conn, []string{database})
	r := bustest.Run(t, b.Conn, "work", 10)
	b.Publish(t, "query", 1)
	require.NoError(t, r.Next(t).AckConfirmed(t.Context()))

	b.Node.Restart()
	require.Eventually(t, func() bool { return r.Intake.State().Phase == intake.Recovering && b.Conn.State().Connected }, 20*time.Second, time.Millisecond)
	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "q", nil))
	b.Publish(t, "query", 1)
	select {
	case <-r.Got:
		require.FailNow(t, "a message came before the requests to cancel were read")
	case <-time.After(500 * time.Millisecond):
	}
	bustest.FollowCancellations(t, n)
	require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
	require.Equal(t, 1, n.Open())
}

func TestCancellationsOnACluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three servers")
	}
	nodes := bustest.Cluster(t, 3)
	top := bustest.Topology()
	top.Replicas = 3
	b := bustest.SetupOn(t, nodes.Nodes[0], top)
	other, _ := bustest.Connect(t, nodes.Nodes[1].ClientURL())
	n := bustest.WatchCancellations(t, b.Conn)
	past := time.Now().Add(-time.Hour)
	for i := range 3 {
		id := fmt.Sprint("job", i)
		require.NoError(t, control.RequestCancel(t.Context(), other, database, id, nil))
		require.Eventually(t, func() bool { return n.Requested(database, id, past) }, 20*time.Second, time.Millisecond)
		s, err := b.JS.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
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
	b := bustest.Setup(t)
	n := bustest.WatchCancellations(t, b.Conn)
	require.NoError(t, b.JS.DeleteStream(t.Context(), "KV_DBRUNNER_CONTROL"))
	require.Eventually(t, func() bool {
		_, err := b.JS.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "it is made again, as the topology is managed")
	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "after", nil))
	assert.Eventually(t, func() bool { return n.Requested(database, "after", time.Now().Add(-time.Hour)) }, 20*time.Second, time.Millisecond)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	_, err := b.JS.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NotErrorIs(t, err, jetstream.ErrBucketNotFound)
}

// Stock clients can take a request back; removing the history of keys, and with it the keys of others, is refused.
func TestTheControlBucketRefusesPurges(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	n := bustest.WatchCancellations(t, b.Conn)
	kv, err := b.JS.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	past := time.Now().Add(-time.Hour)
	for _, key := range []string{"one", "two", "three"} {
		_, err = kv.Put(t.Context(), database+"."+key, nil)
		require.NoError(t, err)
	}
	require.Error(t, kv.Purge(t.Context(), database+".one"))
	_, err = b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.DBRUNNER_CONTROL.demo.one", Header: nats.Header{"Nats-Rollup": {"all"}}})
	require.ErrorContains(t, err, "10111")
	require.NoError(t, kv.Delete(t.Context(), database+".two"))
	_, err = kv.Create(t.Context(), database+".two", nil)
	require.NoError(t, err, "a request that was taken back is made again")
	require.NoError(t, kv.Delete(t.Context(), database+".three"))
	require.Eventually(t, func() bool {
		return n.Open() == 2 && n.Requested(database, "one", past) && n.Requested(database, "two", past)
	}, 10*time.Second, time.Millisecond)
}
