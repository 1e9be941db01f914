package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
)

func TestSettleTakenAsksTheExecutor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.results.stored["1"] = "another message's"
		b.executor.taken = func(out delivery.Outcome, existing []byte) delivery.Outcome {
			require.Equal(t, "another message's", string(existing))
			out.Store = &delivery.Publication{Key: "derived", Body: []byte("aside")}
			return out
		}
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		require.Equal(t, "aside", b.results.get("derived"))
		require.Equal(t, "another message's", b.results.get("1"))
		require.Equal(t, []string{"deliver", "reply", "ack"}, b.stream.of(1))
		require.EqualValues(t, 1, b.lane.State().Taken)
		b.stop()
	})
}

func TestSettleTakenMayHoldTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(_ context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
			if d.MaybeRedelivered { // looks before it runs
				return delivery.Outcome{Action: delivery.Settle, Status: contract.Succeeded, JobID: "1", Duplicate: true}
			}
			_ = begin()
			return settled(d, contract.Succeeded)
		})
		b.results.stored["1"] = "another message's"
		b.executor.taken = func(delivery.Outcome, []byte) delivery.Outcome {
			return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
		}
		b.stream.publish(1, 0)
		b.start()
		after(10 * time.Second)
		require.Equal(t, []string{"deliver", "ack"}, b.stream.of(1))
		require.EqualValues(t, 1, b.lane.State().Duplicates)
		b.stop()
	})
}

// A store whose answer was lost meets its own result.
func TestSettleOwnResultIsNoDuplicate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Succeeded))
		b.executor.taken = func(delivery.Outcome, []byte) delivery.Outcome { panic("not asked") }
		b.results.lose = 1
		b.stream.publish(1, 0)
		b.start()
		after(10 * time.Second)
		require.Equal(t, "succeeded 1", b.results.get("1"))
		require.Equal(t, []string{"deliver", "reply", "ack"}, b.stream.of(1))
		require.Zero(t, b.lane.State().Duplicates)
		require.Zero(t, b.lane.State().Panics)
		b.stop()
	})
}

func TestSettleContinuesWithoutReplyAndDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, work(0, contract.Failed))
		b.outbox.replyErr, b.outbox.deadLetterErr = errDown, errDown
		b.stream.publish(1, 0)
		b.start()
		after(time.Minute)
		require.Equal(t, []string{"deliver", "store", "ack confirmed"}, b.stream.of(1))
		require.Equal(t, 5, b.outbox.tried())
		require.EqualValues(t, 1, b.lane.State().DeadLettersLost)
		require.EqualValues(t, 1, b.lane.State().RepliesLost)
		b.stop()
	})
}

func TestSettleUnconfirmedAcknowledgementIsNotRequeued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(_ context.Context, d *delivery.Delivery, _ func() error) delivery.Outcome {
			if d.Deliveries > 1 { // finds its stored result
				return delivery.Outcome{Action: delivery.Settle, Status: contract.Succeeded, Duplicate: true}
			}
			return settled(d, contract.Failed)
		})
		b.stream.setDown(true)
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		b.stream.setDown(false)
		after(time.Minute)
		journal := b.stream.of(1)
		require.Equal(t, []string{"deliver", "store", "reply", "dead letter", "deliver", "ack"}, journal)
		b.stop()
	})
}

func TestSettleReplyOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(_ context.Context, d *delivery.Delivery, _ func() error) delivery.Outcome {
			out := settled(d, contract.Succeeded)
			out.Store = nil
			return out
		})
		b.stream.publish(1, 0)
		b.start()
		after(time.Second)
		require.Equal(t, []string{"deliver", "reply", "ack"}, b.stream.of(1))
		require.Zero(t, b.results.count())
		b.stop()
	})
}
