package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

// cancellable is an executor's Run of jobs that take a minute, and end as cancelled once that is asked for.
func cancellable(asked *atomic.Bool) func(context.Context, *delivery.Delivery, func() error) delivery.Outcome {
	return func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
		if asked.Load() {
			return settled(d, contract.Canceled)
		}
		return work(time.Minute, contract.Succeeded)(ctx, d, begin)
	}
}

// only picks one job.
func only(sequence uint64) func(*delivery.Delivery) bool {
	return func(d *delivery.Delivery) bool { return d.Sequence == sequence }
}

func TestCancelEndsWhatRunsHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Bool
		b := setup(t, cancellable(&asked))
		b.stream.publish(2, 0)
		b.start()
		after(30 * time.Second)
		asked.Store(true)
		b.lane.Cancel(only(1))
		b.lane.Cancel(only(1)) // once more does not stop the end
		synctest.Wait()
		require.EqualValues(t, 1, b.stream.deliveriesOf(1), "it is not requeued")
		require.Equal(t, "ack confirmed", last(b.stream.of(1)), "immediately")
		require.Equal(t, "cancelled 1", b.results.get("1"))
		require.Equal(t, 1, b.lane.State().SlotsInUse)
		after(time.Minute)
		require.Equal(t, "succeeded 2", b.results.get("2"), "others are not disturbed")
		b.stop()
	})
}

func TestCancelOfWhatWaitsAtTheGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, reached atomic.Bool
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if !reached.Load() {
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
			}
			return cancellable(&asked)(ctx, d, begin)
		})
		b.stream.publish(1, 0)
		b.start()
		synctest.Wait()
		b.prober.set(errDown)
		after(10 * time.Second)
		asked.Store(true)
		b.lane.Cancel(only(1))
		after(10 * time.Second)
		require.Equal(t, 1, b.lane.State().SlotsInUse, "it waits: the outcome is unknown")
		require.NotContains(t, b.stream.of(1), "nak")
		reached.Store(true)
		b.prober.set(nil)
		after(10 * time.Second)
		require.Equal(t, "cancelled 1", b.results.get("1"))
		require.EqualValues(t, 1, b.stream.deliveriesOf(1))
		b.stop()
	})
}

func TestCancelAfterTheLeaseWasLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Bool
		b := setup(t, cancellable(&asked))
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		b.stream.setDown(true)
		after(ackWait + time.Second)
		b.stream.setDown(false)
		asked.Store(true)
		b.lane.Cancel(only(1))
		after(time.Minute)
		require.Equal(t, "cancelled 1", b.results.get("1"), "the next delivery ends it")
		require.GreaterOrEqual(t, b.stream.deliveriesOf(1), uint64(2))
		b.stop()
	})
}

// TestCancelInEveryMoment: whenever the request comes, each job ends once, and the lane is well.
func TestCancelInEveryMoment(t *testing.T) {
	t.Parallel()
	for moment := range 40 {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Bool
			b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
				if asked.Load() {
					return work(10*time.Millisecond, contract.Canceled)(ctx, d, func() error { return nil })
				}
				time.Sleep(5 * time.Millisecond)
				return work(10*time.Millisecond, contract.Succeeded)(ctx, d, begin)
			}, func(b *bench, _ *worker.Options) { b.results.slow = 3 * time.Millisecond })
			b.stream.publish(10, 0)
			b.start()
			time.Sleep(time.Duration(moment) * time.Millisecond)
			asked.Store(true)
			b.lane.Cancel(func(*delivery.Delivery) bool { return true })
			after(time.Minute)
			require.Zero(t, b.stream.left())
			require.Equal(t, 10, b.results.count())
			for sequence := range uint64(10) {
				require.EqualValues(t, 1, b.stream.deliveriesOf(sequence+1))
			}
			b.stop()
		})
	}
}
