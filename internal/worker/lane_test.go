package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

func TestLaneSettlesInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			status := contract.Succeeded
			if d.Sequence%2 == 0 {
				status = contract.Failed
			}
			return work(time.Second, status)(ctx, d, begin)
		})
		b.stream.publish(20, 0)
		b.start()
		after(time.Minute)
		require.Zero(t, b.stream.left())
		require.Equal(t, []string{"deliver", "store", "reply", "ack"}, b.stream.of(1))
		require.Equal(t, []string{"deliver", "store", "reply", "dead letter", "ack confirmed"}, b.stream.of(2))
		state := b.lane.State()
		require.EqualValues(t, 10, state.Settled[contract.Succeeded])
		require.EqualValues(t, 10, state.Settled[contract.Failed])
		require.EqualValues(t, 20, state.Ended["settled"])
		require.Len(t, b.events, 20)
		require.Equal(t, time.Second, b.events[0].Ran)
		deadLetters := map[string]int{}
		for _, e := range b.events {
			deadLetters[e.DeadLetter]++
			require.EqualValues(t, 1, e.Attempts)
			require.NotEmpty(t, e.JobID)
		}
		require.Equal(t, map[string]int{"": 10, "failed": 10}, deadLetters)
		require.LessOrEqual(t, b.executor.most(), slots)
		b.stop()
	})
}

func TestLaneSlotIsFreeWhileItsResultIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.results.slow = time.Second
		b.stream.publish(100, 0)
		b.start()
		after(500 * time.Millisecond)
		state := b.lane.State()
		require.Equal(t, slots, state.SlotsInUse, "no settling place is left for these")
		require.Equal(t, settling, state.Settling)
		require.Len(t, b.executor.started(), slots+settling)
		after(100 * time.Second)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestLaneRefusesWhatItHasNoSlotFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(time.Second, contract.Succeeded))
		b.stream.over = 3
		b.stream.publish(slots+3, 0)
		b.start()
		after(100 * time.Millisecond)
		require.Equal(t, slots, b.lane.State().SlotsInUse)
		after(time.Minute)
		require.Zero(t, b.stream.left())
		require.LessOrEqual(t, b.executor.most(), slots)
		b.stop()
	})
}

func TestLanePanicRequeues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(_ context.Context, d *delivery.Delivery, _ func() error) delivery.Outcome {
			if d.Deliveries == 1 {
				panic("a value that no log may have")
			}
			return settled(d, contract.Succeeded)
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		require.Equal(t, []string{"deliver", "nak later", "deliver", "store", "reply", "ack"}, b.stream.of(1))
		require.EqualValues(t, 1, b.lane.State().Panics)
		b.stop()
	})
}

// brokenIntake ends by itself until it has done so often enough.
type brokenIntake struct {
	*stream
	left int
}

func (i *brokenIntake) Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, worker.Message)) error {
	if i.left > 0 {
		i.left--
		return errDown
	}
	return i.stream.Run(ctx, credits, handle)
}

func TestLaneRunsItsIntakeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded), func(b *bench, o *worker.Options) {
			o.Intake = &brokenIntake{stream: b.stream, left: 3}
		})
		b.stream.publish(5, 0)
		b.start()
		after(100 * time.Millisecond)
		require.Equal(t, errDown.Error(), b.lane.State().IntakeError)
		after(20 * time.Second)
		require.Empty(t, b.lane.State().IntakeError)
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestLaneRepeatsWhatCameToNoDecision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		b := setup(t, func(_ context.Context, d *delivery.Delivery, _ func() error) delivery.Outcome {
			runs++
			if runs < 4 {
				return delivery.Outcome{Action: delivery.Undecided}
			}
			return settled(d, contract.Succeeded)
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		require.Equal(t, 4, runs)
		require.EqualValues(t, 1, b.stream.deliveriesOf(1), "no delivery is burnt")
		require.Zero(t, b.stream.left())
		b.stop()
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := worker.New(worker.Options{Database: "db", Name: "work", Slots: 0, MaxSettling: -1, AckWait: time.Millisecond})
	require.ErrorContains(t, err, "lane work of db")
	require.ErrorContains(t, err, "slot")
	require.ErrorContains(t, err, "settling")
	require.ErrorContains(t, err, "ack wait")
	require.ErrorContains(t, err, "are required")
	_, err = worker.NewGate(worker.GateOptions{})
	require.Error(t, err)
	_, err = worker.NewSweeper(worker.SweeperOptions{})
	require.Error(t, err)
	_, err = worker.NewSweeper(worker.SweeperOptions{Ledger: &ledger{}, Backlog: &backlog{}, Gate: &worker.Gate{}, Logger: zap.NewNop()})
	require.Error(t, err)
}
