package worker_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

func TestLeaseIsKeptForALongJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(5*time.Minute, contract.Succeeded))
		b.stream.publish(2*slots, 0)
		b.start()
		after(11 * time.Minute)
		require.Zero(t, b.stream.left())
		for sequence := uint64(1); sequence <= 2*slots; sequence++ {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence))
		}
		require.Zero(t, b.lane.State().LeasesLost)
		b.stop()
	})
}

func TestLeaseCostsAShortJobNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Second, contract.Succeeded))
		b.stream.publish(200, 0)
		b.start()
		after(time.Minute)
		for sequence := uint64(1); sequence <= 200; sequence++ {
			require.NotContains(t, b.stream.of(sequence), "extend")
		}
		b.stop()
	})
}

func TestLeaseLostCancelsWorkThatRollsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var cause error
		var lasted time.Duration
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Deliveries > 1 {
				return settled(d, contract.Succeeded)
			}
			if begin() != nil {
				return delivery.Outcome{Action: delivery.Undecided}
			}
			<-ctx.Done()
			cause, lasted = context.Cause(ctx), time.Since(start)
			return delivery.Outcome{Action: delivery.Undecided, Started: true}
		})
		b.stream.setDown(true)
		b.stream.publish(1, 0)
		b.start()
		after(20 * time.Second)
		require.ErrorIs(t, cause, worker.ErrLeaseLost)
		require.GreaterOrEqual(t, lasted, ackWait)
		require.Less(t, lasted, ackWait+ackWait/10)
		require.EqualValues(t, 1, b.lane.State().LeasesLost)
		require.EqualValues(t, 1, b.lane.State().Ended["lease_lost"])
		require.NotContains(t, b.stream.of(1), "nak")
		require.Zero(t, b.stream.left(), "the other delivery ended it")
		b.stop()
	})
}

// The lease counts from the request for its extension, not from the answer.
func TestLeaseCountsFromTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lasted time.Duration
		b := setup(t, nil)
		b.executor.run = func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Deliveries > 1 {
				return settled(d, contract.Succeeded)
			}
			_ = begin()
			time.Sleep(ackWait / 2)
			b.stream.mu.Lock()
			b.stream.down = true
			asked := b.stream.asked
			b.stream.mu.Unlock()
			<-ctx.Done()
			lasted = time.Since(asked)
			return delivery.Outcome{Action: delivery.Undecided, Started: true}
		}
		b.stream.slowAnswer = ackWait / 7
		b.stream.publish(1, 0)
		b.start()
		after(2 * ackWait)
		require.GreaterOrEqual(t, lasted, ackWait)
		require.LessOrEqual(t, lasted, ackWait+ackWait/12)
		b.stop()
	})
}

func TestLeaseSurvivesAShortLossOfTheBus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Minute, contract.Succeeded))
		b.stream.publish(1, 0)
		b.start()
		for range 5 {
			after(ackWait / 2)
			b.stream.setDown(true)
			after(ackWait / 3)
			b.stream.setDown(false)
		}
		after(time.Minute)
		require.Zero(t, b.lane.State().LeasesLost)
		require.EqualValues(t, 1, b.stream.deliveriesOf(1))
		b.stop()
	})
}

func TestLeaseLostDoesNotStopWorkThatOutlivesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Deliveries > 1 {
				<-ctx.Done() // waits for the session lock of the first
				return delivery.Outcome{Action: delivery.Undecided}
			}
			return work(time.Minute, contract.Succeeded)(ctx, d, begin)
		})
		b.stream.setDown(true)
		b.stream.sequence = 999
		b.stream.publish(1, 0) // number 1000 outlives its lease
		b.start()
		after(61 * time.Second)
		require.NotZero(t, b.lane.State().LeasesLost)
		journal := b.stream.of(1000)
		require.Contains(t, journal, "store")
		require.Contains(t, journal, "ack", "the record says done")
		require.NotContains(t, journal, "nak")
		b.stopWork()
		b.stop()
	})
}

// A result whose database is done is stored although the lease is lost, and the message taken out.
func TestLeaseLostWhileStoring(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := true
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, _ func() error) delivery.Outcome {
			if !first {
				<-ctx.Done()
				return delivery.Outcome{Action: delivery.Undecided}
			}
			first = false
			return settled(d, contract.Failed)
		})
		b.stream.setDown(true)
		b.results.err = errDown
		b.stream.publish(1, 0)
		b.start()
		after(ackWait + ackWait/2)
		require.EqualValues(t, 1, b.lane.State().LeasesLost)
		b.stream.setDown(false)
		b.results.set(func(r *results) { r.err = nil })
		after(5 * time.Second)
		journal := b.stream.of(1)
		i := slices.Index(journal, "store")
		require.Positive(t, i)
		require.Equal(t, []string{"store", "reply", "dead letter", "ack confirmed"}, slices.DeleteFunc(journal[i:], func(s string) bool { return s == "extend" }))
		b.stopWork()
		b.stop()
	})
}

// A delivery that waits for its connection when its lease is lost is left to expire, whatever its kind.
func TestLeaseLostBeforeTheBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said error
		b := setup(t, func(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Deliveries > 1 {
				return settled(d, contract.Succeeded)
			}
			time.Sleep(ackWait + time.Millisecond) // ctx is not checked here
			said = begin()
			return delivery.Outcome{Action: delivery.Undecided}
		})
		b.stream.setDown(true)
		b.stream.sequence = 999
		b.stream.publish(1, 0)
		b.start()
		after(ackWait * 2)
		require.ErrorIs(t, said, worker.ErrLeaseLost)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

// While a machine is suspended its timers and the monotonic clock stand still. After the resume, only the clock of leases shows
// that the lease is over: the work is stopped, nothing new is started, and nothing is requeued.
func TestLeaseIsLostWhileTheMachineIsSuspended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const closed = ackWait / 5 // the lid: after some looks at the leases, before the first extension
		var suspended atomic.Int64
		start := time.Now()
		var lasted time.Duration
		var beginAgain error
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Deliveries > 1 {
				return settled(d, contract.Succeeded)
			}
			if d.Sequence == 2 { // not started yet when the lid is closed
				time.Sleep(closed + 100*time.Millisecond)
				beginAgain = begin()
				return delivery.Outcome{Action: delivery.Undecided}
			}
			if begin() != nil {
				return delivery.Outcome{Action: delivery.Undecided}
			}
			time.AfterFunc(closed, func() { suspended.Store(int64(time.Hour)) })
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), worker.ErrLeaseLost)
			lasted = time.Since(start)
			return delivery.Outcome{Action: delivery.Undecided, Started: true}
		}, func(_ *bench, o *worker.Options) {
			o.Now = func() time.Time { return time.Unix(0, 0).Add(time.Since(start) + time.Duration(suspended.Load())) }
		})
		b.stream.publish(2, 0)
		b.start()
		after(2 * ackWait)
		require.ErrorIs(t, beginAgain, worker.ErrLeaseLost)
		require.GreaterOrEqual(t, lasted, closed, "the lease is kept until then")
		require.LessOrEqual(t, lasted, closed+ackWait/12, "at the next look")
		require.EqualValues(t, 2, b.lane.State().Ended["lease_lost"])
		for sequence := uint64(1); sequence <= 2; sequence++ {
			require.NotContains(t, b.stream.of(sequence), "nak")
			require.EqualValues(t, 2, b.stream.deliveriesOf(sequence))
		}
		require.Zero(t, b.stream.left())
		b.stop()
	})
}
