package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

// moveByHand moves the kind transaction to the migration lane past the queue's waiting jobs, as a plain client can.
func moveByHand(t *testing.T, b *bundle) {
	t.Helper()
	const stream = "DBRUNNER_JOBS_demo"
	work, migration := consumerInfo(t, b.js, "work").Config, consumerInfo(t, b.js, "migration").Config
	work.FilterSubjects = []string{"dbrunner.jobs.demo.query"}
	migration.FilterSubjects = []string{"dbrunner.jobs.demo.migration", "dbrunner.jobs.demo.transaction"}
	_, err := b.js.UpdateConsumer(t.Context(), stream, work)
	require.NoError(t, err)
	_, err = b.js.UpdateConsumer(t.Context(), stream, migration)
	require.NoError(t, err)
}

func TestStraysAreTakenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "transaction", 2)
	b.publish(t, "migration", 3)
	r := b.run(t, "migration", 1)
	for range 3 {
		require.NoError(t, r.next(t).AckConfirmed(t.Context()))
		r.credits <- 1
	}
	moveByHand(t, b)
	for sequence := range uint64(2) { // the server never delivers them again: its consumer is past them
		m := r.next(t)
		require.Equal(t, sequence+1, m.Sequence())
		require.Equal(t, "transaction", m.Kind())
		require.False(t, m.First())
		require.NoError(t, m.InProgress(t.Context()))
		require.NoError(t, m.AckConfirmed(t.Context()))
		r.credits <- 1
	}
	require.Equal(t, uint64(2), r.intake.State().Orphans)
	b.awaitEmpty(t)
}

func TestStraysHandedBackStay(t *testing.T) {
	t.Parallel()
	top := topology()
	top.AckWait = time.Second
	b := setupTopology(t, top)
	b.publish(t, "transaction", 1)
	b.publish(t, "migration", 1)
	r := b.run(t, "migration", 1)
	require.NoError(t, r.next(t).AckConfirmed(t.Context()))
	r.credits <- 1
	moveByHand(t, b)
	require.NoError(t, r.next(t).Nak(0))
	r.stop(t)
	again := b.run(t, "migration", 1) // another runner finds it too
	require.NoError(t, again.next(t).AckConfirmed(t.Context()))
	b.awaitEmpty(t)
}

func TestHeldMessagesAreNoStrays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 5)
	intake, err := b.conn.OpenIntake(t.Context(), database, "work")
	require.NoError(t, err)
	intake.SweepEvery(100 * time.Millisecond)
	intake.ShortenTimes(150 * time.Millisecond) // looks are made by the tick
	r := start(t, intake, 4)
	var held []*bus.Message
	for range 4 {
		held = append(held, r.next(t))
	}
	require.NoError(t, held[3].AckConfirmed(t.Context())) // the acknowledgement floor stays below the first
	require.NoError(t, held[0].AckConfirmed(t.Context()))
	select {
	case m := <-r.got:
		require.FailNow(t, "delivered", "sequence %d", m.Sequence())
	case <-time.After(1500 * time.Millisecond):
	}
	require.Zero(t, intake.State().Orphans)
}

func TestApplyDoesNotMoveAKindWithWaitingJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "transaction", 2)
	top := topology()
	top.Databases[0].Lanes[0].Kinds = []string{"query"}
	top.Databases[0].Lanes[1].Kinds = []string{"migration", "transaction"}
	changes, err := b.conn.Apply(t.Context(), top)
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	for _, c := range changes {
		require.False(t, c.Done, "%+v", c)
		require.Contains(t, c.What, "dbrunner.jobs.demo.transaction")
	}
	r := b.run(t, "work", 2)
	for range 2 {
		require.NoError(t, r.next(t).AckConfirmed(t.Context()))
	}
	r.stop(t)
	_, err = b.conn.Apply(t.Context(), top)
	require.NoError(t, err)
	require.NoError(t, b.conn.Verify(t.Context(), top))
}

// leftBehind makes an orphan: a message of the migration lane that its consumer is past.
func leftBehind(t *testing.T, b *bundle) {
	t.Helper()
	b.publish(t, "transaction", 1)
	b.publish(t, "migration", 1)
	r := b.run(t, "migration", 1)
	require.NoError(t, r.next(t).AckConfirmed(t.Context()))
	r.stop(t)
	moveByHand(t, b)
}

// life is one life of a runner that takes up an orphan and ends without a word about it; it returns the delivery number.
func (b *bundle) life(t *testing.T) uint64 {
	t.Helper()
	conn, _ := connect(t, b.node.ClientURL())
	r := b.lifeOn(t, conn)
	m := r.next(t)
	require.Equal(t, "transaction", m.Kind())
	require.False(t, m.First())
	r.stop(t)
	return m.Deliveries()
}

func (b *bundle) lifeOn(t *testing.T, conn *bus.Conn) *running {
	t.Helper()
	intake, err := conn.OpenIntake(t.Context(), database, "migration")
	require.NoError(t, err)
	intake.SweepEvery(100 * time.Millisecond)
	intake.ShortenTimes(150 * time.Millisecond)
	return start(t, intake, 1)
}

// The deliveries of an orphan count, over all lives of all runners: a job that kills its runner is quarantined and given up.
func TestDeliveriesOfStraysAreCounted(t *testing.T) {
	t.Parallel()
	top := topology()
	top.AckWait = 500 * time.Millisecond
	b := setupTopology(t, top)
	leftBehind(t, b)
	n := watched(t, b.conn)
	for want := uint64(2); want <= 6; want++ {
		require.Equal(t, want, b.life(t))
	}
	require.Zero(t, n.Open(), "a count is no request to cancel")

	// A count of another message under the same sequence, as of a stream that was made anew, does not count.
	kv, err := b.js.KeyValue(t.Context(), "DBRUNNER_CONTROL")
	require.NoError(t, err)
	for _, foreign := range []string{`{"version":1,"stored":"2020-01-01T00:00:00Z","deliveries":19}`, `nonsense`, ``} {
		_, err = kv.PutString(t.Context(), database+".orphan.1", foreign)
		require.NoError(t, err)
		require.EqualValues(t, 2, b.life(t))
		require.EqualValues(t, 3, b.life(t))
	}
}

// An orphan has a lease as any message: while a runner works on it no other takes it up; when that one is gone, one other does.
func TestAStrayHasALease(t *testing.T) {
	t.Parallel()
	top := topology()
	top.AckWait = time.Second
	b := setupTopology(t, top)
	leftBehind(t, b)
	arrived := make(chan *bus.Message, 100)
	for range 3 {
		conn, _ := connect(t, b.node.ClientURL())
		r := b.lifeOn(t, conn)
		go func() {
			for m := range r.got {
				arrived <- m
			}
		}()
		t.Cleanup(func() { r.stop(t); close(r.got) })
	}
	next := func() *bus.Message {
		select {
		case m := <-arrived:
			return m
		case <-time.After(15 * time.Second):
			require.FailNow(t, "nobody takes it up")
			return nil
		}
	}
	first := next()
	require.EqualValues(t, 2, first.Deliveries())
	for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(200 * time.Millisecond) { // by the clock: leases are
		require.NoError(t, first.InProgress(t.Context()))
		require.Empty(t, arrived, "it is at work")
	}
	second := next() // it says nothing any more
	require.EqualValues(t, 3, second.Deliveries())
	require.Error(t, first.InProgress(t.Context()), "its lease is lost, and it learns so")
	require.NoError(t, second.InProgress(t.Context()))
	require.NoError(t, second.AckConfirmed(t.Context()))
	b.awaitEmpty(t)
}

// Without a place to count nothing is taken up, and nothing of the lane stops.
func TestStraysThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	top := topology()
	top.Control.MaxRequests = 1
	b := setupOn(t, bustest.Server(t), top)
	leftBehind(t, b)
	require.NoError(t, b.conn.RequestCancel(t.Context(), database, "other", nil))
	r := b.lifeOn(t, b.conn)
	require.Eventually(t, func() bool { return b.logs.FilterMessageSnippet("cannot be counted").Len() > 0 }, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, r.got)
	b.publish(t, "migration", 1)
	require.Equal(t, "migration", r.next(t).Kind(), "its slot is free again")
}
