package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
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
	require.Equal(t, uint64(2), r.intake.State().Strays)
	b.awaitEmpty(t)
}

func TestStraysHandedBackStay(t *testing.T) {
	t.Parallel()
	b := setup(t)
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
	require.Zero(t, intake.State().Strays)
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
