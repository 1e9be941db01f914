package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

// inFlight lists a lane's jobs by sequence.
func (b *bench) inFlight() map[uint64]contract.RunningJob {
	out := map[uint64]contract.RunningJob{}
	for _, j := range worker.InFlight(b.lane, func(d *delivery.Delivery) string { return fmt.Sprint("id-", d.Sequence) }) {
		out[j.Sequence] = j
	}
	return out
}

// TestInFlight: a job that waits, one that executes for the second time, and one whose result cannot be stored. The clock of
// leases is not that of the host.
func TestInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			switch d.Sequence {
			case 1: // never gets a connection
				<-ctx.Done()
				return delivery.Outcome{Action: delivery.Undecided}
			case 2:
				if tries.Add(1) == 1 {
					_ = begin()
					time.Sleep(10 * time.Second)
					return delivery.Outcome{Action: delivery.AwaitDatabase} // the gate's probe finds it well
				}
			case 3:
				return settled(d, contract.Succeeded)
			}
			return work(time.Hour, contract.Succeeded)(ctx, d, begin)
		}, func(_ *bench, o *worker.Options) {
			o.Now = func() time.Time { return time.Now().Add(-1000 * time.Hour) }
		})
		b.results.set(func(r *results) { r.err = errDown })
		b.stream.publish(2, 0)
		b.stream.publish(1, 2)
		start := time.Now()
		b.start()
		after(20 * time.Second)
		got := b.inFlight()
		require.Len(t, got, 3)
		for sequence, j := range got {
			require.Equal(t, fmt.Sprint("id-", sequence), j.JobID)
			require.WithinDuration(t, start, j.Since, time.Second)
			require.False(t, j.LeaseLost)
		}
		require.Equal(t, contract.JobWaiting, got[1].State)
		require.Zero(t, got[1].Attempts)
		require.Nil(t, got[1].ExecutingSince)
		require.Equal(t, contract.JobExecuting, got[2].State)
		require.EqualValues(t, 2, got[2].Attempts)
		require.EqualValues(t, 1, got[2].Deliveries)
		require.WithinDuration(t, start.Add(10*time.Second), *got[2].ExecutingSince, time.Second)
		require.Equal(t, contract.JobSettling, got[3].State)
		require.EqualValues(t, 3, got[3].Deliveries)
		require.Nil(t, got[3].ExecutingSince)

		b.stopWork()
		<-b.ended
		require.Empty(t, b.inFlight())
		b.stopGate()
		b.running.Wait()
	})
}

// TestInFlightReadsAnIDOnce: a body may be large.
func TestInFlightReadsAnIDOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Minute, contract.Succeeded))
		b.stream.publish(2, 0)
		b.start()
		after(time.Second)
		read := 0
		for range 3 {
			require.Len(t, worker.InFlight(b.lane, func(*delivery.Delivery) string { read++; return "x" }), 2)
		}
		require.Equal(t, 2, read)
		after(2 * time.Minute)
		require.Empty(t, b.inFlight())
		b.stop()
	})
}

// TestInFlightWithoutLease: the server has forgotten the delivery while its work goes on.
func TestInFlightWithoutLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Hour, contract.Succeeded), func(_ *bench, o *worker.Options) { o.Outlives = []string{"query"} })
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		b.stream.setDown(true)
		after(2 * ackWait)
		var lost []string
		for _, j := range worker.InFlight(b.lane, func(*delivery.Delivery) string { return "x" }) {
			if j.LeaseLost { // the others are later deliveries of the same message
				lost = append(lost, j.State)
			}
		}
		require.NotEmpty(t, lost)
		require.Equal(t, contract.JobExecuting, lost[0])
		b.stream.setDown(false)
		b.stopWork()
		<-b.ended
		b.stopGate()
		b.running.Wait()
	})
}
