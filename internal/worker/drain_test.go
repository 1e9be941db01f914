package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/order"
	"dbrunner/internal/worker"
)

func TestDrainRequeuesUnstartedAndFinishesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.Sequence%2 == 0 { // these wait for a connection
				<-ctx.Done()
				if begin() == nil {
					b := "started after it was requeued"
					panic(b)
				}
				return delivery.Outcome{Action: delivery.Undecided}
			}
			return work(time.Minute, contract.Succeeded)(ctx, d, begin)
		})
		b.stream.publish(10, 0)
		b.start()
		after(30 * time.Second)
		b.stopIntake()
		synctest.Wait()
		require.Equal(t, "nak", last(b.stream.of(2)), "immediately")
		require.Equal(t, "nak", last(b.stream.of(4)))
		require.Equal(t, 2, b.lane.State().SlotsInUse)
		after(time.Minute)
		require.Equal(t, "ack", last(b.stream.of(1)), "leases were kept until the end")
		require.Equal(t, "ack", last(b.stream.of(3)))
		require.EqualValues(t, 2, b.lane.State().Ended["drained"])
		<-b.ended
		b.stop()
	})
}

// The intake needs a moment to stop, in which requeueing would bring the messages here again. Nothing is started in
// that moment.
func TestDrainWaitsForTheIntake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		connection := make(chan struct{})
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			select {
			case <-connection:
				return work(0, contract.Succeeded)(ctx, d, begin)
			case <-ctx.Done():
				return delivery.Outcome{Action: delivery.Undecided}
			}
		})
		b.stream.slowStop = time.Second
		b.stream.publish(slots, 0)
		b.start()
		after(time.Second)
		b.stopIntake()
		synctest.Wait()
		close(connection)
		after(900 * time.Millisecond)
		require.NotContains(t, b.stream.of(1), "nak")
		require.NotContains(t, b.stream.of(1), "store")
		after(100 * time.Millisecond)
		<-b.ended
		for sequence := uint64(1); sequence <= slots; sequence++ {
			require.Equal(t, []string{"deliver", "nak"}, b.stream.of(sequence))
		}
		b.stop()
	})
}

func last(journal []string) string { return journal[len(journal)-1] }

func TestDrainDeadlineCancelsAndRequeues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rollback = 3 * time.Second
		b := setup(t, func(ctx context.Context, _ *delivery.Delivery, begin func() error) delivery.Outcome {
			if begin() != nil {
				return delivery.Outcome{Action: delivery.Undecided}
			}
			<-ctx.Done()
			time.Sleep(rollback)
			return delivery.Outcome{Action: delivery.Undecided, Started: true}
		})
		b.stream.publish(slots, 0)
		b.start()
		after(time.Minute)
		b.stopIntake()
		after(time.Minute)
		require.Equal(t, slots, b.lane.State().SlotsInUse)
		b.stopWork()
		after(rollback - time.Second)
		require.NotContains(t, b.stream.of(1), "nak", "not before it is rolled back")
		after(time.Second)
		<-b.ended
		require.Equal(t, "nak", last(b.stream.of(1)))
		require.EqualValues(t, slots, b.lane.State().Ended["stopped"])
		b.stop()
	})
}

// What has ended at the deadline gets a moment to be stored.
func TestDrainDeadlineStoresWhatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			_ = begin()
			<-ctx.Done()
			time.Sleep(time.Second) // and yet the COMMIT was answered
			return settled(d, contract.Failed)
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		b.stopWork()
		<-b.ended
		require.Equal(t, []string{"deliver", "store", "reply", "dead letter", "ack confirmed"}, b.stream.of(1))
		b.stop()
	})
}

func TestDrainDeadlineGivesUpStoring(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.results.err = errDown
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		b.stopWork()
		after(3 * time.Second)
		<-b.ended
		require.Equal(t, "nak", last(b.stream.of(1)))
		b.stop()
	})
}

func TestDrainWhileTheDatabaseDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := database{starts: true}
		b := setup(t, server.run)
		b.start()
		after(time.Second)
		server.down.Store(true)
		b.prober.set(errDown)
		b.stream.publish(slots, 0)
		after(5 * time.Second)
		require.Positive(t, b.lane.State().SlotsInUse)
		b.stopIntake()
		synctest.Wait()
		<-b.ended
		require.Equal(t, "nak", last(b.stream.of(1)))
		require.Equal(t, slots, b.stream.left())
		b.stop()
	})
}

// A job that had started, was held, and waits for its next connection when it is requeued: neither a begin nor an
// end counts any more.
func TestDrainOfAHeldJobThatRunsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		connection := make(chan struct{})
		runs := 0
		var said error
		b := setup(t, func(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			runs++
			if runs == 1 {
				_ = begin()
				return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown, Started: true}
			}
			<-connection
			said = begin()
			return settled(d, contract.Failed)
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		b.stopIntake()
		synctest.Wait()
		require.Equal(t, []string{"deliver", "nak"}, b.stream.of(1))
		close(connection)
		<-b.ended
		require.ErrorIs(t, said, worker.ErrRequeued)
		require.Equal(t, []string{"deliver", "nak"}, b.stream.of(1))
		b.stop()
	})
}

func TestDrainBeforeTheDatabaseEverAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.prober.set(errDown)
		b.start()
		after(time.Minute)
		b.stop()
	})
}

// firstOf is an ordered queue whose first message is the one with a sequence, and which no operator resumes.
type firstOf struct {
	stream   *stream
	sequence uint64
}

func (q firstOf) First(context.Context) (*order.Position, error) {
	q.stream.mu.Lock()
	defer q.stream.mu.Unlock()
	return &order.Position{Sequence: q.sequence, Stored: q.stream.entries[q.sequence].stored}, nil
}

func (q firstOf) Released(context.Context) (*order.Position, error) { return nil, nil }

func (q firstOf) TakeUp(uint64) {}

func (q firstOf) Answered(context.Context, *delivery.Delivery) bool { return false }

// A job of an ordered queue that fails before the drain or during it is left to another runner: this one waits for no operator.
func TestDrainDoesNotWaitForTheResumeOfAQueue(t *testing.T) {
	t.Parallel()
	for name, stopAfter := range map[string]time.Duration{"failed before": 2 * time.Minute, "fails meanwhile": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, work(time.Minute, contract.Failed), func(b *bench, o *worker.Options) { o.Order = firstOf{b.stream, 1} })
				b.stream.publish(1, 0)
				b.start()
				after(stopAfter)
				b.stopIntake()
				after(2 * time.Minute)
				select {
				case <-b.ended:
				default:
					require.Fail(t, "the lane waits for an operator")
				}
				require.Equal(t, "nak", last(b.stream.of(1)))
				b.stopWork()
				b.stop()
			})
		})
	}
}
