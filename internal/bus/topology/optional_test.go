package topology_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

const feature = "dbrunner.jobs.demo.call.*"

// withFeature is bustest.Topology with an optional lane, whose consumer filters more than the stream takes.
func withFeature() topology.Topology {
	top := withoutFeature()
	top.Databases[0].Lanes = append(top.Databases[0].Lanes, topology.Lane{
		Name: "call", Kinds: []string{"call"}, Optional: true,
		Subjects: []string{"call.*"}, Filters: []string{"call.*", "dry_run", "dry_run.*"},
	})
	return top
}

// withoutFeature does not have it, and knows that other configurations may.
func withoutFeature() topology.Topology {
	top := bustest.Topology()
	top.Databases[0].Features = []string{"call.*", "dry_run", "dry_run.*"}
	return top
}

func apply(t *testing.T, b *bustest.Bundle, top topology.Topology, opts topology.ApplyOptions) []topology.Change {
	t.Helper()
	changes, err := topology.Apply(t.Context(), b.Conn, top, opts)
	require.NoError(t, err)
	for _, c := range changes {
		require.True(t, c.Done, "%+v", c)
	}
	return changes
}

func TestARunnerStartsWithoutAnOptionalLane(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{false, true} {
		t.Run(fmt.Sprint("verify ", verify), func(t *testing.T) {
			t.Parallel()
			b := bustest.Setup(t)
			start := topology.Manage
			if verify {
				start = topology.Verify
			}
			require.NoError(t, start(t.Context(), b.Conn, withFeature()))
			stream, err := b.JS.Stream(t.Context(), "DBRUNNER_JOBS_demo")
			require.NoError(t, err)
			require.NotContains(t, stream.CachedInfo().Config.Subjects, feature, "a start never adds subjects")
			_, err = b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", "call")
			require.Equal(t, verify, err != nil, "only manage creates the consumer")

			w := watch(t, b, withFeature(), !verify)
			problems := awaitProblems(t, w, func(p []topology.Problem) bool { return len(p) > 0 })
			for _, p := range problems {
				require.True(t, p.Off && !p.Stops(), "%+v", p)
				require.Contains(t, p.Remedy(), "runner topology apply")
			}
			changes := apply(t, b, withFeature(), topology.ApplyOptions{})
			if verify {
				require.Len(t, changes, 2)
				require.Equal(t, topology.Change{Resource: "consumer DBRUNNER_JOBS_demo/call", What: "created", Done: true}, changes[0], "before the subjects")
			}
			awaitProblems(t, w, none)
			require.Equal(t, []string{feature, "dbrunner.jobs.demo.dry_run", "dbrunner.jobs.demo.dry_run.*"},
				bustest.ConsumerInfo(t, b.JS, "call").Config.FilterSubjects)
		})
	}
}

func TestOnlyOptionalSubjectsMayBeMissing(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	top := withFeature()
	top.Databases[0].Lanes[0].Kinds = append(top.Databases[0].Lanes[0].Kinds, "statement")
	require.ErrorContains(t, topology.Verify(t.Context(), b.Conn, top), "subjects is")
	extra := bustest.Topology()
	extra.Databases[0].Features = []string{"call.*"}
	extra.Databases[0].Lanes[0].Kinds = []string{"query"}
	require.ErrorContains(t, topology.Verify(t.Context(), b.Conn, extra), "subjects is", "transaction is no feature")
}

// Promise: an upgrade under load loses no acknowledged job. Jobs wait and are published while consumers and subjects are added.
func TestApplyAddsAFeatureUnderLoad(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 200)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged, refused atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			subject := "dbrunner.jobs.demo.query"
			if i%2 == 1 {
				subject = "dbrunner.jobs.demo.call.pay"
			}
			if _, err := b.JS.Publish(t.Context(), subject, []byte("1"), jetstream.WithRetryAttempts(0)); err == nil {
				acknowledged.Add(1)
			} else {
				refused.Add(1)
			}
		}
	}()
	require.Eventually(t, func() bool { return acknowledged.Load() > 20 && refused.Load() > 0 }, 30*time.Second, time.Millisecond)
	apply(t, b, withFeature(), topology.ApplyOptions{})
	before := acknowledged.Load()
	require.Eventually(t, func() bool { return acknowledged.Load() > before+100 }, 30*time.Second, time.Millisecond)
	cancel()
	<-done
	// Delivered, not counted by the server: its number of pending messages is an estimate while messages arrive.
	called := deliver(t, b, "call")
	require.NotZero(t, called)
	require.Equal(t, int(acknowledged.Load())+200, deliver(t, b, "work")+called)
}

// deliver acknowledges all that a consumer delivers and returns how many messages that were.
func deliver(t *testing.T, b *bustest.Bundle, consumer string) (n int) {
	t.Helper()
	c, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", consumer)
	require.NoError(t, err)
	for {
		batch, err := c.FetchNoWait(1000)
		require.NoError(t, err)
		before := n
		for m := range batch.Messages() {
			require.NoError(t, m.DoubleAck(t.Context()))
			n++
		}
		require.NoError(t, batch.Error())
		if n == before {
			return n
		}
	}
}

// Promise: a feature is taken back in the order of documents: subjects first, the consumer once nothing is stored for it.
func TestAFeatureIsTakenBackWithoutLosingItsJobs(t *testing.T) {
	t.Parallel()
	b := bustest.SetupOn(t, bustest.Server(t), withFeature())
	_, err := b.JS.Publish(t.Context(), "dbrunner.jobs.demo.call.pay", []byte("1"))
	require.NoError(t, err)

	require.NoError(t, topology.Verify(t.Context(), b.Conn, withoutFeature()), "another configuration may have it")
	kept := apply(t, b, withoutFeature(), topology.ApplyOptions{})
	require.Len(t, kept, 1)
	require.Contains(t, kept[0].What, "kept "+feature)
	_, err = b.JS.Publish(t.Context(), "dbrunner.jobs.demo.call.pay", []byte("2"))
	require.NoError(t, err)

	removed := apply(t, b, withoutFeature(), topology.ApplyOptions{Remove: true})
	require.Len(t, removed, 1)
	require.Contains(t, removed[0].What, "changed subjects from")
	_, err = b.JS.Publish(t.Context(), "dbrunner.jobs.demo.call.pay", []byte("3"))
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse)
	for _, force := range []bool{false, true} {
		pruned, err := topology.Prune(t.Context(), b.Conn, withoutFeature(), force)
		require.NoError(t, err)
		require.Len(t, pruned, 1)
		require.False(t, pruned[0].Done)
		require.Contains(t, pruned[0].What, "2 jobs wait for it")
	}
	consumer, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_demo", "call")
	require.NoError(t, err)
	batch, err := consumer.Fetch(2, jetstream.FetchMaxWait(10*time.Second))
	require.NoError(t, err)
	for m := range batch.Messages() {
		require.NoError(t, m.DoubleAck(t.Context()))
	}
	pruned, err := topology.Prune(t.Context(), b.Conn, withoutFeature(), true)
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "consumer DBRUNNER_JOBS_demo/call", What: "removed", Done: true}}, pruned)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
}
