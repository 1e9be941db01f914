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

// waitsFor is a job that waits for its turn in the database, as for a connection, before it starts.
func waitsFor(turn <-chan struct{}) func(context.Context, *delivery.Delivery, func() error) delivery.Outcome {
	return func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
		select {
		case <-turn:
		case <-ctx.Done():
			return delivery.Outcome{Action: delivery.Undecided}
		}
		if begin() != nil {
			return delivery.Outcome{Action: delivery.Undecided}
		}
		return settled(d, contract.Succeeded)
	}
}

// TestAPausedLaneStartsNothing: neither what is in the stream nor what is in flight starts, however long the pause is, and no
// delivery is used up.
func TestAPausedLaneStartsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{})
		b := setup(t, waitsFor(turn))
		b.start()
		b.stream.publish(10, 0)
		after(time.Second)
		require.Equal(t, slots, b.lane.State().SlotsInUse, "they wait for a connection")
		b.pause.Set(true)
		close(turn) // the connections are free: nothing may start all the same
		after(25 * time.Hour)
		state := b.lane.State()
		require.Zero(t, b.results.count())
		require.Zero(t, b.stream.sessionsNow(), "nothing is pulled")
		require.Equal(t, slots, state.SlotsInUse, "what is in flight stays so")
		require.True(t, state.Paused)
		require.Zero(t, state.Started)
		require.Zero(t, state.LeasesLost)
		for sequence := range uint64(slots) {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence+1))
		}
		b.pause.Set(false)
		after(time.Second)
		require.Equal(t, 10, b.results.count())
		b.stop()
		for sequence := range uint64(10) {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence+1))
		}
	})
}

// TestWhatHadStartedGoesOnInAPausedLane: it finishes, also with further attempts.
func TestWhatHadStartedGoesOnInAPausedLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		b := setup(t, func(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if begin() != nil {
				return delivery.Outcome{Action: delivery.Undecided}
			}
			attempts++
			time.Sleep(time.Minute)
			if attempts < 3 {
				return delivery.Outcome{Action: delivery.Undecided, Started: true}
			}
			return settled(d, contract.Succeeded)
		})
		b.start()
		b.stream.publish(1, 0)
		after(time.Second)
		b.pause.Set(true)
		after(90 * time.Second)
		require.Equal(t, 1, b.lane.State().Started, "it runs, a second time")
		b.stream.publish(1, 0)
		after(time.Hour)
		require.Equal(t, 3, attempts)
		require.Equal(t, 1, b.results.count(), "the other one was not pulled")
		require.Zero(t, b.lane.State().Started)
		b.pause.Set(false)
		after(time.Hour)
		require.Equal(t, 2, b.results.count())
		b.stop()
	})
}

// TestCancelledAndExpiredJobsEndInAPausedLane: they get that outcome during the pause, and are not started.
func TestCancelledAndExpiredJobsEndInAPausedLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{})
		var b *bench
		b = setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if canceled, _ := b.executor.Preemption(d); canceled {
				return settled(d, contract.Canceled)
			}
			if _, expires := b.executor.Preemption(d); !expires.IsZero() && !time.Now().Before(expires) {
				return settled(d, contract.Expired)
			}
			return waitsFor(turn)(ctx, d, begin)
		})
		b.executor.canceled = map[uint64]bool{2: true} // before it is delivered
		b.executor.expires = map[uint64]time.Time{3: time.Now().Add(time.Hour)}
		b.stream.publish(4, 0)
		b.stream.slowStop = time.Second // all of them are delivered while the intake stops
		b.start()
		after(time.Millisecond)
		b.pause.Set(true)
		close(turn)
		after(time.Minute)
		require.Equal(t, "cancelled 2", b.results.get("2"))
		require.Equal(t, 1, b.results.count())
		b.executor.mu.Lock()
		b.executor.canceled[4] = true
		b.executor.mu.Unlock()
		b.lane.Cancel(func(d *delivery.Delivery) bool { return d.Sequence == 4 })
		after(time.Minute)
		require.Equal(t, "cancelled 4", b.results.get("4"), "cancel works meanwhile")
		after(time.Hour)
		require.Equal(t, "expired 3", b.results.get("3"))
		require.Equal(t, 3, b.results.count())
		b.pause.Set(false)
		after(time.Minute)
		require.Equal(t, "succeeded 1", b.results.get("1"))
		b.stop()
	})
}

// TestPausesUseUpNoDeliveries: 30 cycles, among them while the database does not answer, quarantine nothing.
func TestPausesUseUpNoDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(3*time.Second, contract.Succeeded))
		b.start()
		b.stream.publish(200, 0)
		for cycle := range 30 {
			after(1500 * time.Millisecond)
			b.pause.Set(true)
			if cycle%3 == 0 {
				b.prober.set(errDown)
			}
			after(2 * graceTime)
			b.prober.set(nil)
			b.pause.Set(false)
		}
		after(time.Hour)
		require.Equal(t, 200, b.results.count())
		for sequence := range uint64(200) {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence+1), sequence+1)
		}
		b.stop()
	})
}

// TestAPausedLaneDrains: a runner that stops requeues what it has not started, and waits for what it has.
func TestAPausedLaneDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{})
		b := setup(t, waitsFor(turn))
		b.start()
		b.stream.publish(slots, 0)
		after(time.Second)
		b.pause.Set(true)
		close(turn)
		after(time.Minute)
		b.stop()
		require.Equal(t, slots, b.stream.left())
		require.Zero(t, b.results.count())
	})
}

// TestALaneThatIsPausedFromTheStart pulls nothing until it is resumed.
func TestALaneThatIsPausedFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.pause.Set(true)
		b.start()
		b.stream.publish(3, 0)
		after(time.Hour)
		require.Zero(t, b.stream.sessionsNow())
		require.EqualValues(t, 0, b.stream.deliveriesOf(1))
		b.pause.Set(false)
		after(time.Second)
		require.Equal(t, 3, b.results.count())
		b.stop()
	})
}

// TestAPausedLaneKeepsItsQuarantine: a job that waits for its turn in quarantine does not start either.
func TestAPausedLaneKeepsItsQuarantine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Minute, contract.Succeeded), func(_ *bench, o *worker.Options) { o.Slots = 3 })
		b.start()
		b.stream.publish(3, 3)
		after(time.Second)
		b.pause.Set(true)
		after(time.Hour)
		require.Equal(t, 1, b.results.count(), "the one that had started")
		b.pause.Set(false)
		after(time.Hour)
		require.Equal(t, 3, b.results.count())
		b.stop()
	})
}
