package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

func TestQuarantineRunsOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Second, contract.Succeeded))
		b.stream.publish(2, 3) // this is their 4th delivery
		b.stream.publish(20, 0)
		b.start()
		after(900 * time.Millisecond)
		require.Equal(t, 3, b.executor.current(), "one of two jobs in quarantine and two others")
		after(time.Minute)
		require.Zero(t, b.stream.left())
		b.stop() // fails if two jobs in quarantine ran at the same time
	})
}

func TestQuarantineFillingEverySlotMakesProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Second, contract.Succeeded))
		b.stream.publish(5*slots, 3)
		b.stream.publish(5, 0)
		b.start()
		after(time.Minute)
		require.Zero(t, b.stream.left())
		require.Zero(t, b.lane.State().LeasesLost)
		b.stop()
	})
}

func TestQuarantinePicksAtRandom(t *testing.T) {
	t.Parallel()
	first := map[uint64]int{}
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, work(time.Second, contract.Succeeded))
			b.stream.publish(slots, 3)
			b.start()
			after(time.Second)
			first[b.executor.started()[0]]++
			after(time.Minute)
			b.stop()
		})
	}
	require.Len(t, first, slots, "each of them was the first one once: %v", first)
}

func TestQuarantineWaitersAreRequeuedByTheDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Minute, contract.Succeeded))
		b.stream.publish(slots, 3)
		b.start()
		after(time.Second)
		b.stopIntake()
		synctest.Wait()
		require.EqualValues(t, slots-1, b.lane.State().Ended["drained"])
		after(time.Minute)
		<-b.ended
		b.stop()
	})
}

// Quarantine covers the runner, not one database: redelivered jobs of a database that does not answer try once at most, and wait
// for their gate without the turn, so that those of another database have it.
func TestQuarantineIsReleasedAtTheGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quarantine := worker.NewQuarantine()
		shared := func(_ *bench, o *worker.Options) { o.Quarantine = quarantine }
		var server database
		b := setup(t, server.run, shared)
		other := setup(t, work(time.Second, contract.Succeeded), shared)
		b.start()
		other.start()
		after(time.Second)
		server.down.Store(true)
		b.prober.set(errDown)
		b.stream.publish(slots, 4)
		after(10 * time.Second)
		require.Equal(t, slots, b.lane.State().SlotsInUse)
		tried := len(b.executor.started())
		require.LessOrEqual(t, tried, slots, "no job is retried before the gate opens")
		other.stream.publish(slots, 4)
		after(10 * time.Second)
		require.Zero(t, other.stream.left(), "redelivered jobs of the other database run")
		require.Len(t, b.executor.started(), tried)
		server.down.Store(false)
		b.prober.set(nil)
		after(time.Minute)
		require.Zero(t, b.stream.left())
		b.stop()
		other.stop()
	})
}

// A job that kills its runner every time: its neighbours, held by the same runner each time, come to their end.
func TestQuarantineLetsOtherJobsOfAKillerFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const neighbours, deliveryLimit = 3 * slots, 20
		s := newStream()
		s.publish(1+neighbours, 0)
		for life := 0; s.left() > 0; life++ {
			require.Less(t, life, 100)
			runner := live(t, s, deliveryLimit)
			select {
			case <-runner.died:
			case <-time.After(time.Minute):
			}
			runner.stopGoroutines()
			after(2 * ackWait)
		}
		require.Empty(t, s.found())
		require.EqualValues(t, deliveryLimit+1, s.deliveriesOf(1))
	})
}

// mortal is a runner that the first job of the stream kills.
type mortal struct {
	*bench
	died chan struct{}
}

func live(t *testing.T, s *stream, deliveryLimit uint64) *mortal {
	t.Helper()
	m := &mortal{died: make(chan struct{})}
	run := work(time.Second, contract.Succeeded)
	m.bench = setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
		switch {
		case d.Sequence == 1 && d.Deliveries <= deliveryLimit:
			s.kill()
			close(m.died)
		case d.Deliveries > deliveryLimit && d.Sequence != 1:
			s.fault("neighbour %d is given up", d.Sequence)
		}
		return run(ctx, d, begin)
	}, func(b *bench, o *worker.Options) {
		b.stream, b.results.stream, b.outbox.stream, b.executor.stream = s, s, s, s
		o.Intake = s
	})
	m.start()
	return m
}

// stopGoroutines stops the goroutines of a dead runner, whose messages are ignored.
func (m *mortal) stopGoroutines() {
	m.stopWork()
	<-m.ended
	m.stopGate()
	m.running.Wait()
}
