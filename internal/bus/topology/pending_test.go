package topology_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

const manyPending = 10_000

// Promise: queues, calls and dry runs come to a database with 10,000 pending jobs under load, and go again but for a queue, on one node and on three: no
// acknowledged job is lost or stranded, and prune refuses while a message is pending or ack pending, also by force and after a restart of all nodes.
func TestQueuesComeAndGoBesidePendingJobs(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int{"R1": 1, "R3": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queuesComeAndGo(t, replicas)
		})
	}
}

func queuesComeAndGo(t *testing.T, replicas int) {
	t.Helper()
	of := func(calls topology.Topology, queues ...string) topology.Topology {
		top := withQueues(queues...)
		top.Replicas = replicas
		top.Databases[0].Features = calls.Databases[0].Features
		top.Databases[0].Lanes = append(calls.Databases[0].Lanes, top.Databases[0].Lanes[len(bustest.Topology().Databases[0].Lanes):]...)
		return top
	}
	all, left := of(withFeature(), "bulk", "feed"), of(withoutFeature(), "feed")
	b, restart := onNodes(t, of(withoutFeature()))
	for i := range manyPending {
		_, err := b.JS.PublishAsync("dbrunner.jobs.demo.query", []byte("1"))
		require.NoError(t, err)
		if i%500 == 499 {
			<-b.JS.PublishAsyncComplete()
		}
	}
	acknowledged, _, stop := publishTo(t, b, "dbrunner.jobs.demo.query", "dbrunner.jobs.demo.call.pay", "dbrunner.queues.demo.bulk.query",
		"dbrunner.queues.demo.feed.query", "dbrunner.queues.demo.bulk.call.pay")
	grows := func() {
		before := acknowledged.Load()
		require.Eventually(t, func() bool { return acknowledged.Load() > before+60 }, time.Minute, time.Millisecond)
	}
	grows()
	apply(t, b, all, topology.ApplyOptions{})
	grows()
	apply(t, b, left, topology.ApplyOptions{Remove: true})
	stop()
	for _, subject := range []string{"dbrunner.queues.demo.bulk.query", "dbrunner.jobs.demo.call.pay"} {
		_, err := b.JS.Publish(t.Context(), subject, []byte("1"), jetstream.WithRetryAttempts(0))
		require.Error(t, err)
	}

	refuses := func(consumers int) {
		var err error
		for _, force := range []bool{false, true} {
			var changes []topology.Change
			require.Eventually(t, func() bool {
				changes, err = topology.Prune(t.Context(), b.Conn, left, force)
				return err == nil // after a restart, a stream or a consumer may have no leader yet, which Prune refuses
			}, time.Minute, time.Millisecond)
			require.Len(t, changes, consumers)
			for _, c := range changes {
				require.Contains(t, c.What, " jobs wait for it, which no other consumer would deliver")
			}
		}
	}
	refuses(2)
	restart()
	refuses(2)
	finished := finish(t, b, "call", 0)
	require.NotZero(t, finished)
	changes, err := topology.Prune(t.Context(), b.Conn, left, false)
	require.NoError(t, err)
	require.Equal(t, "removed", byResource(t, changes, "consumer DBRUNNER_JOBS_demo/call").What)
	finished += finish(t, b, "queue_bulk", 1)
	refuses(1) // one message is ack pending
	finished += finish(t, b, "queue_bulk", 0) + finish(t, b, "queue_feed", 0) + finish(t, b, "work", 0)
	require.Equal(t, int(acknowledged.Load())+manyPending, finished)
	changes, err = topology.Prune(t.Context(), b.Conn, left, false)
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "consumer DBRUNNER_JOBS_demo/queue_bulk", What: "removed", Done: true}}, changes)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, left))
}

// onNodes creates a topology on as many nodes as it has replicas. restart restarts all of them.
func onNodes(t *testing.T, top topology.Topology) (b *bustest.Bundle, restart func()) {
	t.Helper()
	if top.Replicas < 2 {
		node := bustest.Server(t)
		return bustest.SetupOn(t, node, top), node.Restart
	}
	c := bustest.Cluster(t, top.Replicas)
	b = &bustest.Bundle{}
	b.Conn, b.Logs = bustest.Connect(t, c.URL())
	b.Plain, b.JS = bustest.Plain(t, c.URL())
	require.NoError(t, topology.Manage(t.Context(), b.Conn, top))
	return b, func() {
		for _, n := range c.Nodes {
			n.Restart()
			c.AwaitLeader()
		}
	}
}

// finish acknowledges all messages of a consumer but some, which it requeues at the end, and returns how many it has acknowledged.
func finish(t *testing.T, b *bustest.Bundle, consumer string, but int) (n int) {
	t.Helper()
	var c jetstream.Consumer
	require.Eventually(t, func() bool {
		var err error
		c, err = b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", consumer)
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	var kept []jetstream.Msg
	require.Eventually(t, func() bool {
		batch, err := c.Fetch(500, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return false
		}
		for m := range batch.Messages() {
			if len(kept) < but {
				kept = append(kept, m)
			} else if m.DoubleAck(t.Context()) == nil {
				n++
			}
		}
		info, err := c.Info(t.Context())
		return err == nil && info.NumPending == 0 && info.NumAckPending == len(kept) && len(kept) == but
	}, 2*time.Minute, time.Millisecond)
	for _, m := range kept {
		require.NoError(t, m.Nak())
	}
	return n
}
