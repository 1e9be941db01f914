package intake_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/topology"
)

// moveByHand moves the kind transaction to the migration lane past the queue's waiting jobs, as a plain client can.
func moveByHand(t *testing.T, b *bustest.Bundle) {
	t.Helper()
	const stream = "DBRUNNER_JOBS_demo"
	work, migration := bustest.ConsumerInfo(t, b.JS, "work").Config, bustest.ConsumerInfo(t, b.JS, "migration").Config
	work.FilterSubjects = []string{"dbrunner.jobs.demo.query"}
	migration.FilterSubjects = []string{"dbrunner.jobs.demo.migration", "dbrunner.jobs.demo.transaction"}
	_, err := b.JS.UpdateConsumer(t.Context(), stream, work)
	require.NoError(t, err)
	_, err = b.JS.UpdateConsumer(t.Context(), stream, migration)
	require.NoError(t, err)
}

func TestOrphansAreDelivered(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "transaction", 2)
	b.Publish(t, "migration", 3)
	r := run(t, b.Conn, "migration", 1)
	for range 3 {
		require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
		r.Credits <- 1
	}
	moveByHand(t, b)
	for sequence := range uint64(2) { // the server never delivers them again: its consumer is past them
		m := r.Next(t)
		require.Equal(t, sequence+1, m.Sequence())
		require.Equal(t, "transaction", m.Kind())
		require.False(t, m.First())
		require.NoError(t, m.InProgress(t.Context()))
		require.NoError(t, m.AckConfirmed(t.Context()))
		r.Credits <- 1
	}
	require.Equal(t, uint64(2), r.Intake.State().Orphans)
	b.AwaitEmpty(t)
}

func TestRequeuedOrphansStay(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	b.Publish(t, "transaction", 1)
	b.Publish(t, "migration", 1)
	r := run(t, b.Conn, "migration", 1)
	require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
	r.Credits <- 1
	moveByHand(t, b)
	require.NoError(t, r.Next(t).Nak(0))
	r.Stop(t)
	again := run(t, b.Conn, "migration", 1) // another runner finds it too
	require.NoError(t, again.Next(t).AckConfirmed(t.Context()))
	b.AwaitEmpty(t)
}

func TestMessagesInFlightAreNoOrphans(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 5)
	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	opened.SweepEvery(100 * time.Millisecond)
	opened.ShortenTimes(150 * time.Millisecond) // looks are made by the tick
	r := bustest.Start(t, opened, 4)
	var held []*intake.Message
	for range 4 {
		held = append(held, r.Next(t))
	}
	require.NoError(t, held[3].AckConfirmed(t.Context())) // the acknowledgement floor stays below the first
	require.NoError(t, held[0].AckConfirmed(t.Context()))
	select {
	case m := <-r.Got:
		require.FailNow(t, "delivered", "sequence %d", m.Sequence())
	case <-time.After(1500 * time.Millisecond):
	}
	require.Zero(t, opened.State().Orphans)
}

func TestApplyDoesNotMoveAKindWithWaitingJobs(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "transaction", 2)
	top := bustest.Topology()
	top.Databases[0].Lanes[0].Kinds = []string{"query"}
	top.Databases[0].Lanes[1].Kinds = []string{"migration", "transaction"}
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	for _, c := range changes {
		require.False(t, c.Done, "%+v", c)
		require.Contains(t, c.What, "dbrunner.jobs.demo.transaction")
	}
	r := run(t, b.Conn, "work", 2)
	for range 2 {
		require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
	}
	r.Stop(t)
	_, err = topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top))
}

// leftBehind makes an orphan: a message of the migration lane that its consumer is past.
func leftBehind(t *testing.T, b *bustest.Bundle) {
	t.Helper()
	b.Publish(t, "transaction", 1)
	b.Publish(t, "migration", 1)
	r := run(t, b.Conn, "migration", 1)
	require.NoError(t, r.Next(t).AckConfirmed(t.Context()))
	r.Stop(t)
	moveByHand(t, b)
}

// life is one life of a runner that takes up an orphan and ends without a word about it; it returns the delivery number.
func life(t *testing.T, b *bustest.Bundle) uint64 {
	t.Helper()
	conn, _ := bustest.Connect(t, b.Node.ClientURL())
	r := lifeOn(t, conn)
	m := r.Next(t)
	require.Equal(t, "transaction", m.Kind())
	require.False(t, m.First())
	r.Stop(t)
	return m.Deliveries()
}

func lifeOn(t *testing.T, conn *bus.Conn) *bustest.Running {
	t.Helper()
	opened, err := intake.Open(t.Context(), conn, database, "migration")
	require.NoError(t, err)
	opened.SweepEvery(100 * time.Millisecond)
	opened.ShortenTimes(150 * time.Millisecond)
	return bustest.Start(t, opened, 1)
}

// The deliveries of an orphan count, over all lives of all runners: a job that kills its runner is quarantined and given up.
func TestDeliveriesOfOrphansAreCounted(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = 500 * time.Millisecond
	b := bustest.SetupOn(t, bustest.Server(t), top)
	leftBehind(t, b)
	n := bustest.WatchCancellations(t, b.Conn)
	for want := uint64(2); want <= 6; want++ {
		require.Equal(t, want, life(t, b))
	}
	require.Zero(t, n.Open(), "a count is no request to cancel")

	// A count of another message under the same sequence, as of a recreated stream, does not count.
	kv, err := b.JS.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	for _, foreign := range []string{`{"version":1,"stored":"2020-01-01T00:00:00Z","deliveries":19}`, `nonsense`, ``} {
		_, err = kv.PutString(t.Context(), database+".orphan.1", foreign)
		require.NoError(t, err)
		require.EqualValues(t, 2, life(t, b))
		require.EqualValues(t, 3, life(t, b))
	}
}

// An orphan has a lease as any message: while a runner works on it no other takes it up; when that one is gone, one other does.
func TestAnOrphanHasALease(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	leftBehind(t, b)
	arrived := make(chan *intake.Message, 100)
	for range 3 {
		conn, _ := bustest.Connect(t, b.Node.ClientURL())
		r := lifeOn(t, conn)
		go func() {
			for m := range r.Got {
				arrived <- m
			}
		}()
		t.Cleanup(func() { r.Stop(t); close(r.Got) })
	}
	next := func() *intake.Message {
		select {
		case m := <-arrived:
			return m
		case <-time.After(15 * time.Second):
			require.FailNow(t, "it is not delivered")
			return nil
		}
	}
	first := next()
	require.EqualValues(t, 2, first.Deliveries())
	for started := time.Now(); time.Since(started) < 3*time.Second; time.Sleep(200 * time.Millisecond) { // by the clock: leases are
		require.NoError(t, first.InProgress(t.Context()))
		require.Empty(t, arrived, "it is at work")
	}
	second := next() // it says nothing any more
	require.EqualValues(t, 3, second.Deliveries())
	require.Error(t, first.InProgress(t.Context()), "its lease is lost, and it learns so")
	require.NoError(t, second.InProgress(t.Context()))
	require.NoError(t, second.AckConfirmed(t.Context()))
	b.AwaitEmpty(t)
}

// Without a place to count nothing is taken up, and nothing of the lane stops.
func TestOrphansThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Control.MaxRequests = 1
	b := bustest.SetupOn(t, bustest.Server(t), top)
	leftBehind(t, b)
	require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "other", nil))
	r := lifeOn(t, b.Conn)
	require.Eventually(t, func() bool { return b.Logs.FilterMessageSnippet("cannot be counted").Len() > 0 }, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, r.Got)
	b.Publish(t, "migration", 1)
	require.Equal(t, "migration", r.Next(t).Kind(), "its slot is free again")
}

// Promise: of runners that take up the same orphan at the same moment, on a cluster too, one gets it, and the others learn just that.
func TestOrphansLeasedAtTheSameMoment(t *testing.T) {
	t.Parallel()
	c := bustest.Cluster(t, 3)
	top := bustest.Topology()
	top.Replicas = 3
	conn, _ := bustest.Connect(t, c.URL())
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	const runners, orphans = 6, 50
	var intakes []*intake.Intake
	for range runners {
		conn, _ := bustest.Connect(t, c.URL())
		opened, err := intake.Open(t.Context(), conn, database, "work")
		require.NoError(t, err)
		intakes = append(intakes, opened)
	}
	for sequence := range uint64(orphans) {
		m := &bus.StoredMessage{Sequence: sequence + 1, Time: time.Now().UTC()}
		var all sync.WaitGroup
		var leases atomic.Int64
		for _, i := range intakes {
			all.Go(func() {
				switch leased, err := intake.LeaseOrphan(t.Context(), i, m); {
				case err != nil:
					t.Errorf("an error that is no lease of another: %s", err)
				case leased:
					leases.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, leases.Load(), "orphan %d", sequence+1)
	}
}
