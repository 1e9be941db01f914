package topology_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// withQueues is bustest.Topology with queues, one of which has a name of the longest kind.
func withQueues(names ...string) topology.Topology {
	top := bustest.Topology()
	for _, name := range names {
		top.Databases[0].Lanes = append(top.Databases[0].Lanes, topology.Lane{
			Name: "queue_" + name, Queue: name, Kinds: []string{"query", "transaction"}, Subjects: []string{"query", "transaction", "call.*"},
			Filters: []string{">"}, Optional: true, MaxAckPending: 8,
		})
	}
	return top
}

// publishTo publishes to the queue bulk as fast as the server answers, until stop, and returns how many it acknowledged.
func publishTo(t *testing.T, b *bustest.Bundle, subjects ...string) (acknowledged, refused *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	acknowledged, refused = new(atomic.Int64), new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := b.JS.Publish(t.Context(), subjects[i%len(subjects)], []byte("1"), jetstream.WithRetryAttempts(0)); err == nil {
				acknowledged.Add(1)
			} else {
				refused.Add(1)
			}
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return acknowledged, refused, stop
}

func TestAQueueHasOneConsumerWithOneFilter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("q", 64)
	b := bustest.SetupOn(t, bustest.Server(t), withQueues("bulk", long))
	info := bustest.ConsumerInfo(t, b.JS, "queue_bulk")
	require.Equal(t, []string{"dbrunner.queues.demo.bulk.>"}, bus.Filters(&info.Config))
	require.Equal(t, 8, info.Config.MaxAckPending)
	bustest.ConsumerInfo(t, b.JS, "queue_"+long)
	for subject, taken := range map[string]bool{
		"dbrunner.queues.demo.bulk.query": true, "dbrunner.queues.demo.bulk.call.pay": true, "dbrunner.queues.demo.bulk.migration": false,
		"dbrunner.queues.demo.bulk.query.more": false, "dbrunner.queues.demo.bluk.query": false, "dbrunner.queues.demo." + long + ".query": true,
	} {
		_, err := b.JS.Publish(t.Context(), subject, []byte("1"), jetstream.WithRetryAttempts(0))
		require.Equal(t, taken, err == nil, "%s: %v", subject, err)
	}
	require.NoError(t, topology.Verify(t.Context(), b.Conn, withQueues("bulk", long)))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()), "a runner that does not know the queues starts")
	higher := withQueues("bulk", long)
	higher.Databases[0].Lanes[len(higher.Databases[0].Lanes)-1].MaxAckPending = 4
	require.NoError(t, topology.Verify(t.Context(), b.Conn, higher), "a limit that is not in force yet is reported and no reason not to start")
	changes := apply(t, b, higher, topology.ApplyOptions{})
	require.Contains(t, changes[len(changes)-1].What, "max_ack_pending from 8 to 4")
}

// Promise: queues are added to a database with pending jobs under load, and no acknowledged job is lost or stranded.
func TestApplyAddsQueuesUnderLoad(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 200)
	acknowledged, refused, stop := publishTo(t, b, "dbrunner.jobs.demo.query", "dbrunner.queues.demo.bulk.query", "dbrunner.queues.demo.feed.call.pay")
	require.Eventually(t, func() bool { return acknowledged.Load() > 20 && refused.Load() > 0 }, 30*time.Second, time.Millisecond)
	changes := apply(t, b, withQueues("bulk", "feed"), topology.ApplyOptions{})
	require.Equal(t, "consumer DBRUNNER_JOBS_demo/queue_bulk", changes[0].Resource, "before the subjects")
	before := acknowledged.Load()
	require.Eventually(t, func() bool { return acknowledged.Load() > before+100 }, 30*time.Second, time.Millisecond)
	stop()
	bulk, feed := deliver(t, b, "queue_bulk"), deliver(t, b, "queue_feed")
	require.True(t, bulk > 0 && feed > 0)
	require.Equal(t, int(acknowledged.Load())+200, deliver(t, b, "work")+bulk+feed)
}

// Promise: a queue is removed under load without a lost or stranded job: publishing is refused first, what is stored is finished, also
// after a restart, and only then is the consumer deleted, however hard one asks.
func TestAQueueIsRemovedUnderLoad(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	b := bustest.SetupOn(t, node, withQueues("bulk", "feed"))
	acknowledged, refused, stop := publishTo(t, b, "dbrunner.queues.demo.bulk.query", "dbrunner.queues.demo.feed.query", "dbrunner.jobs.demo.query")
	require.Eventually(t, func() bool { return acknowledged.Load() > 100 }, 30*time.Second, time.Millisecond)

	kept := apply(t, b, withQueues("feed"), topology.ApplyOptions{})
	require.Len(t, kept, 1)
	require.Contains(t, kept[0].What, "kept dbrunner.queues.demo.bulk.call.*, dbrunner.queues.demo.bulk.query")
	require.Zero(t, refused.Load())
	apply(t, b, withQueues("feed"), topology.ApplyOptions{Remove: true})
	require.Eventually(t, func() bool { return refused.Load() > 0 }, 30*time.Second, time.Millisecond, "publishing is refused")
	stop()
	for _, force := range []bool{false, true} {
		require.Contains(t, prunedBulk(t, b, force), " jobs wait for it, which no other consumer would deliver")
	}
	node.Restart()
	require.Eventually(t, func() bool {
		_, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", "queue_bulk")
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	bulk := deliver(t, b, "queue_bulk")
	require.NotZero(t, bulk)
	require.Equal(t, int(acknowledged.Load()), bulk+deliver(t, b, "queue_feed")+deliver(t, b, "work"))
	require.Equal(t, "removed", prunedBulk(t, b, true))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, withQueues("feed")))
}

// Promise: a queue without messages is not removed either while its stream takes some: the next one would be stranded.
func TestPruneKeepsTheConsumerOfATakenSubject(t *testing.T) {
	t.Parallel()
	b := bustest.SetupOn(t, bustest.Server(t), withQueues("bulk", "feed"))
	for _, force := range []bool{false, true} {
		require.Contains(t, prunedBulk(t, b, force), "kept: the stream takes jobs on dbrunner.queues.demo.bulk.")
	}
	apply(t, b, withQueues("feed"), topology.ApplyOptions{Remove: true})
	require.Equal(t, "removed", prunedBulk(t, b, false))
}

// Promise: a consumer is not deleted, however hard one asks, while the stream holds a message that it has left behind, which the server counts neither as
// pending nor as ack pending.
func TestPruneKeepsTheConsumerOfAnOrphan(t *testing.T) {
	t.Parallel()
	const stream = "DBRUNNER_JOBS_demo"
	byHand := func(t *testing.T, b *bustest.Bundle, change func(*jetstream.ConsumerConfig)) {
		t.Helper()
		config := bustest.ConsumerInfo(t, b.JS, "queue_bulk").Config
		change(&config)
		_, err := b.JS.UpdateConsumer(t.Context(), stream, config)
		require.NoError(t, err)
	}
	next := func(t *testing.T, b *bustest.Bundle) jetstream.Msg {
		t.Helper()
		c, err := b.JS.Consumer(t.Context(), stream, "queue_bulk")
		require.NoError(t, err)
		m, err := c.Next(jetstream.FetchMaxWait(30 * time.Second))
		require.NoError(t, err)
		return m
	}
	for name, leave := range map[string]func(*testing.T, *bustest.Bundle){
		"past its floor": func(t *testing.T, b *bustest.Bundle) {
			for _, kinds := range []string{"transaction", ">"} {
				byHand(t, b, func(c *jetstream.ConsumerConfig) {
					c.FilterSubject, c.FilterSubjects = "dbrunner.queues.demo.bulk."+kinds, nil
				})
				if kinds != ">" {
					require.NoError(t, next(t, b).DoubleAck(t.Context()))
				}
			}
		},
		"beyond its deliveries": func(t *testing.T, b *bustest.Bundle) {
			byHand(t, b, func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 1 })
			require.NoError(t, next(t, b).Nak())
			require.NoError(t, next(t, b).DoubleAck(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bustest.SetupOn(t, bustest.Server(t), withQueues("bulk", "feed"))
			for _, kind := range []string{"query", "transaction"} {
				_, err := b.JS.Publish(t.Context(), "dbrunner.queues.demo.bulk."+kind, []byte("1"))
				require.NoError(t, err)
			}
			leave(t, b)
			require.Eventually(t, func() bool {
				info := bustest.ConsumerInfo(t, b.JS, "queue_bulk")
				return info.NumPending == 0 && info.NumAckPending == 0
			}, 30*time.Second, time.Millisecond)
			apply(t, b, withQueues("feed"), topology.ApplyOptions{Remove: true})
			for _, force := range []bool{false, true} {
				require.Contains(t, prunedBulk(t, b, force), "kept: 1 jobs wait for it, which no other consumer would deliver")
			}
			s, err := b.JS.Stream(t.Context(), stream)
			require.NoError(t, err)
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("dbrunner.queues.demo.bulk.>")))
			require.Equal(t, "removed", prunedBulk(t, b, false))
		})
	}
}

// Promise: a queue is removed in the order of the documents while runners still have it: their requests do not keep its consumer, and they do not
// create it again. When the queue comes back they go on with it.
func TestAQueueIsRemovedUnderItsRunners(t *testing.T) {
	t.Parallel()
	both := withQueues("bulk", "feed")
	b := bustest.SetupOn(t, bustest.Server(t), both)
	runner := bustest.Run(t, b.Conn, "queue_bulk", 1)
	require.Eventually(t, func() bool { return bustest.ConsumerInfo(t, b.JS, "queue_bulk").NumWaiting > 0 }, 30*time.Second, time.Millisecond)
	w := watch(t, b, both, true)
	apply(t, b, withQueues("feed"), topology.ApplyOptions{Remove: true})
	require.Equal(t, "removed", prunedBulk(t, b, false))

	gone := func(p []topology.Problem) bool {
		return slices.ContainsFunc(p, func(p topology.Problem) bool {
			return p.Missing && p.Off && !p.Stops() && p.Resource == "consumer DBRUNNER_JOBS_demo/queue_bulk"
		})
	}
	awaitProblems(t, w, gone)
	require.Eventually(t, func() bool { return runner.Intake.State().Phase == "recovering" }, 30*time.Second, time.Millisecond)
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "health"))
	awaitProblems(t, w, func(p []topology.Problem) bool { // what is deleted by mistake is created again
		_, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", "health")
		return err == nil && gone(p)
	})
	require.NoError(t, b.Conn.Restorer()(t.Context()))
	_, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", "queue_bulk")
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)

	apply(t, b, both, topology.ApplyOptions{})
	_, err = b.JS.Publish(t.Context(), "dbrunner.queues.demo.bulk.query", []byte("1"))
	require.NoError(t, err)
	m := runner.Within(t, time.Minute)
	require.NoError(t, m.AckConfirmed(t.Context()))
}

// prunedBulk prunes without the queue bulk, and returns what became of its consumer.
func prunedBulk(t *testing.T, b *bustest.Bundle, force bool) string {
	t.Helper()
	changes, err := topology.Prune(t.Context(), b.Conn, withQueues("feed"), force)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Equal(t, "consumer DBRUNNER_JOBS_demo/queue_bulk", changes[0].Resource)
	return changes[0].What
}

// withOrder is withQueues with the queue feed, an ordered one or not.
func withOrder(ordered bool) topology.Topology {
	top := withQueues("feed")
	l := &top.Databases[0].Lanes[len(top.Databases[0].Lanes)-1]
	if l.Ordered = ordered; ordered {
		l.MaxAckPending, l.Kinds, l.Subjects = 1, []string{"transaction"}, []string{"transaction"}
	}
	return top
}

// Promise: whether a queue is ordered changes only while it is empty, in both directions; meanwhile runners of either configuration start, and it is reported.
func TestTheOrderOfAQueueChangesOnlyWhileItIsEmpty(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{false, true} {
		b := bustest.SetupOn(t, bustest.Server(t), withOrder(ordered))
		_, err := b.JS.Publish(t.Context(), "dbrunner.queues.demo.feed.transaction", []byte("1"))
		require.NoError(t, err)
		other := withOrder(!ordered)
		require.NoError(t, topology.Verify(t.Context(), b.Conn, other))
		differences, err := topology.Diff(t.Context(), b.Conn, other)
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(differences, func(d topology.Difference) bool {
			return d.Setting == "metadata dbrunner.ordered" && d.Off && strings.Contains(d.Remedy(), "stop publishing to it")
		}), "%v", differences)
		changes, err := topology.Apply(t.Context(), b.Conn, other, topology.ApplyOptions{})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(changes, func(c topology.Change) bool {
			return !c.Done && strings.Contains(c.What, "not changed: 1 messages are in the queue, whose order may change only while it is empty")
		}), "%v", changes)
		require.Equal(t, 1, deliver(t, b, "queue_feed"))
		apply(t, b, other, topology.ApplyOptions{})
		info := bustest.ConsumerInfo(t, b.JS, "queue_feed")
		require.Equal(t, !ordered, info.Config.Metadata["dbrunner.ordered"] != "")
	}
}

// Promise: the jobs stream of a database with an ordered queue is neither removed nor created again while a heartbeat shows a runner of it.
func TestAStreamWithAnOrderedQueueIsNotRecreatedUnderItsRunners(t *testing.T) {
	t.Parallel()
	top := withOrder(true)
	b := bustest.SetupOn(t, bustest.Server(t), top)
	beat := func(state string) {
		_, err := b.JS.Publish(t.Context(), "dbrunner.health.runner.r1", []byte(`{"instance":"r1","state":"`+state+`","databases":[{"name":"demo"}]}`))
		require.NoError(t, err)
	}
	beat("running")
	none := bustest.Topology()
	none.Databases = none.Databases[:0]
	prune := func() string {
		changes, err := topology.Prune(t.Context(), b.Conn, none, true)
		require.NoError(t, err)
		for _, c := range changes {
			if c.Resource == "stream DBRUNNER_JOBS_demo" {
				return c.What
			}
		}
		return ""
	}
	require.Contains(t, prune(), "whose runners are up; stop them first: runner r1")
	require.NoError(t, b.JS.DeleteStream(t.Context(), "DBRUNNER_JOBS_demo"))
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.Contains(t, changes[0].What, "not created: it is missing for a database with an ordered queue whose runners are up")
	beat("stopped")
	apply(t, b, top, topology.ApplyOptions{})
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top))
	require.Equal(t, "removed", prune())
}
