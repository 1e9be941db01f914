package worker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

// database is a switch between a job's execution and Hold.
type database struct {
	down   atomic.Bool
	starts bool // the link breaks after the begin
}

func (s *database) run(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
	if s.down.Load() && !s.starts {
		return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
	}
	if begin() != nil {
		return delivery.Outcome{Action: delivery.Undecided}
	}
	if s.down.Load() {
		return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown, Started: true}
	}
	return settled(d, contract.Succeeded)
}

func TestGateIsClosedUntilTheFirstProbeSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.prober.set(errors.New("the ledger is missing"))
		b.stream.publish(10, 0)
		select {
		case <-b.gate.Probed():
			t.Fatal("no probe has run yet")
		default:
		}
		b.start()
		<-b.gate.Probed()
		after(time.Minute)
		state := b.gate.State()
		require.False(t, state.Open)
		require.Equal(t, "the ledger is missing", state.Unreachable)
		require.Zero(t, b.stream.sessionsNow(), "nothing is pulled")
		require.Empty(t, b.executor.started())
		require.InDelta(t, 15, b.prober.count(), 5, "with growing pauses")
		b.prober.set(nil)
		after(6 * time.Second)
		require.True(t, b.gate.State().Open)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestGateHoldsJobsThroughAShortOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server database
		b := setup(t, server.run)
		b.start()
		after(time.Second)
		server.down.Store(true)
		b.prober.set(errDown)
		b.stream.publish(50, 0)
		after(graceTime - 6*time.Second)
		require.Zero(t, b.stream.sessionsNow(), "intake has stopped")
		require.Positive(t, b.lane.State().SlotsInUse, "and what is held stays, with its lease")
		require.Equal(t, errDown.Error(), b.gate.State().Unreachable)
		require.Empty(t, b.lane.State().IntakeError, "it was asked to stop")
		server.down.Store(false)
		b.prober.set(nil)
		after(10 * time.Second)
		require.Zero(t, b.stream.left())
		for sequence := uint64(1); sequence <= 50; sequence++ {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence), "no delivery is burnt")
		}
		b.stop()
	})
}

func TestGateRequeuesAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before   uint64 // deliveries
		starts   bool
		requeued bool
	}{
		"not started":                       {requeued: true},
		"started":                           {starts: true, requeued: true},
		"not started, 9th":                  {before: 8, requeued: true},
		"not started, 10th: keeps its slot": {before: 9},
		"started, 10th":                     {before: 9, starts: true, requeued: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := database{starts: tt.starts}
				b := setup(t, server.run)
				b.start()
				after(time.Second)
				server.down.Store(true)
				b.prober.set(errDown)
				b.stream.publish(1, tt.before)
				after(graceTime - 100*time.Millisecond)
				require.NotContains(t, b.stream.of(1), "nak later")
				after(time.Second)
				if tt.requeued {
					require.Contains(t, b.stream.of(1), "nak later")
				}
				after(10 * time.Minute)
				require.Equal(t, tt.before+1, b.stream.deliveriesOf(1), "it does not come back to this runner")
				require.Equal(t, tt.requeued, b.lane.State().SlotsInUse == 0)
				server.down.Store(false)
				b.prober.set(nil)
				after(20 * time.Second)
				require.Zero(t, b.stream.left())
				b.stop()
			})
		})
	}
}

// A job that waits for a connection has no live session either.
func TestGateRequeuesJobsThatWaitForAConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			switch d.Sequence {
			case 1:
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
			case 2:
				return work(2*graceTime, contract.Succeeded)(ctx, d, begin) // a live session
			}
			<-ctx.Done()
			return delivery.Outcome{Action: delivery.Undecided}
		})
		b.start()
		after(time.Second)
		b.prober.set(errDown)
		b.stream.publish(1, 3) // its turn comes after the others have arrived
		b.stream.publish(2, 0)
		after(graceTime + 2*time.Second)
		require.Contains(t, b.stream.of(1), "nak later")
		require.Contains(t, b.stream.of(3), "nak later")
		after(graceTime)
		require.Contains(t, b.stream.of(2), "ack")
		b.stop()
	})
}

func TestGateMarksTheRetryAsMaybeRedelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var doubts []bool
		b := setup(t, func(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			doubts = append(doubts, d.MaybeRedelivered)
			switch len(doubts) {
			case 1:
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
			case 2:
				_ = begin()
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
			}
			return settled(d, contract.Succeeded)
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		require.Equal(t, []bool{false, false, true}, doubts)
		b.stop()
	})
}

// A database that answers probes and fails jobs must not be probed in a hot loop.
func TestGateOfAFlappingDatabaseBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server database
		server.down.Store(true)
		b := setup(t, server.run)
		b.stream.publish(1, 0)
		b.start()
		after(5 * time.Minute)
		require.Less(t, b.prober.count(), 90)
		require.EqualValues(t, 1, b.stream.deliveriesOf(1))
		server.down.Store(false)
		after(10 * time.Second)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestGateWithoutAProberOpensByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server database
		server.down.Store(true)
		var gate *worker.Gate
		b := setup(t, server.run, func(_ *bench, o *worker.Options) {
			var err error
			gate, err = worker.NewGate(worker.GateOptions{Database: "db", Logger: zap.NewNop()})
			require.NoError(t, err)
			require.True(t, gate.State().Open)
			o.Gate = gate
		})
		b.gate = gate
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		server.down.Store(false)
		after(6 * time.Second)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestGateClosesWhileTheResultsAreFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(10*time.Millisecond, contract.Succeeded))
		b.results.full = true
		b.stream.publish(50, 0)
		b.start()
		after(5 * time.Minute)
		state := b.lane.State()
		require.True(t, b.gate.State().ResultsFull)
		require.Empty(t, b.gate.State().Unreachable)
		require.Zero(t, b.stream.sessionsNow(), "intake has stopped")
		require.LessOrEqual(t, len(b.executor.started()), slots+settling, "no job starts whose result cannot be stored")
		require.Zero(t, state.LeasesLost, "what ended is kept, lease too")
		require.Empty(t, state.Settled[contract.Succeeded])
		b.results.set(func(r *results) { r.full = false })
		after(10 * time.Second)
		require.True(t, b.gate.State().Open)
		require.Zero(t, b.stream.left())
		require.Equal(t, 50, b.results.count())
		for sequence := uint64(1); sequence <= 50; sequence++ {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence))
		}
		b.stop()
	})
}

// poison starts and ends as if the database were down, whenever it is run, until the test reports that the database answers.
func poison(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
	if d.Refuted >= 2 {
		return settled(d, contract.Failed)
	}
	if begin() != nil {
		return delivery.Outcome{Action: delivery.Undecided}
	}
	return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown, Started: true, MayBeCause: true}
}

// Jobs whose own statements make the database appear down cost other jobs no more than their slots.
func TestGateStaysOpenForJobsThatAreTheirOwnCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Bool
		healthy := work(10*time.Millisecond, contract.Succeeded)
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Sequence%10 == 1 {
				return poison(ctx, d, begin)
			}
			return healthy(ctx, d, begin)
		})
		b.start()
		b.stream.publish(200, 0)
		for range 400 {
			after(50 * time.Millisecond)
			if !b.gate.State().Open {
				closed.Store(true)
			}
		}
		require.False(t, closed.Load())
		require.Zero(t, b.stream.left())
		state := b.lane.State()
		require.EqualValues(t, 20, state.Settled[contract.Failed])
		require.EqualValues(t, 180, state.Settled[contract.Succeeded])
		for sequence := uint64(1); sequence <= 200; sequence++ {
			require.EqualValues(t, 1, b.stream.deliveriesOf(sequence))
		}
		require.LessOrEqual(t, b.prober.count(), 1+2*20)
		b.stop()
	})
}

// A job that only ever fails keeps its slot, and the others theirs: with the first one for good, the gate stays open.
func TestGateStaysOpenForAJobThatNeverComesToAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		healthy := work(10*time.Millisecond, contract.Succeeded)
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Sequence == 1 { // as when its ledger row cannot be written
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
			}
			return healthy(ctx, d, begin)
		})
		b.start()
		b.stream.publish(300, 0)
		after(2 * time.Second)
		require.Equal(t, 1, b.stream.left())
		require.True(t, b.gate.State().Open)
		after(10 * time.Minute)
		require.Less(t, b.prober.count(), 10*60/4, "with growing pauses")
		b.stop()
		require.Contains(t, b.stream.of(1), "nak", "it is requeued when the runner stops")
	})
}

// What jobs say of the database is verified once for all that say it at the same moment.
func TestGateProbesOnceForAllWhoDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var server database
		server.starts = true
		b := setup(t, server.run)
		b.start()
		after(time.Second)
		before := b.prober.count()
		server.down.Store(true)
		b.prober.set(errDown)
		b.stream.publish(slots, 0)
		after(100 * time.Millisecond)
		require.False(t, b.gate.State().Open)
		require.LessOrEqual(t, b.prober.count(), before+2)
		server.down.Store(false)
		b.prober.set(nil)
		after(10 * time.Second)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

// A runner that stops while a probe is under way waits for it no longer than for the work.
func TestStopDuringAProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, poison)
		b.start()
		after(time.Second)
		b.prober.hang(true)
		b.stream.publish(slots, 0)
		after(time.Second)
		stopped := time.Now()
		b.stopWork()
		b.stop()
		require.Less(t, time.Since(stopped), 5*time.Second)
	})
}
