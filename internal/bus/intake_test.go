package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

func TestIntakeDeliversInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 100)
	r := b.run(t, "work", 7)
	for i := range 100 {
		m := r.next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Data()))
		require.Equal(t, "query", m.Kind())
		require.Equal(t, database, m.Database())
		require.Equal(t, "dbrunner.jobs.demo.query", m.Subject())
		require.Equal(t, uint64(i+1), m.Sequence())
		require.Equal(t, uint64(1), m.Deliveries())
		require.True(t, m.First())
		require.WithinDuration(t, time.Now(), m.Timestamp(), time.Minute)
		require.NoError(t, m.Ack())
		r.credits <- 1
	}
	b.awaitEmpty(t)
}

func TestIntakeNeverHoldsMoreThanItsCredits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 500)
	r := b.run(t, "work", 5)
	var held []*bus.Message
	most := 0
	for done := 0; done < 500; {
		if len(held) == 0 || len(r.got) > 0 {
			held = append(held, r.next(t))
			most = max(most, len(held))
			continue
		}
		if done++; done%50 == 0 { // acknowledgements are handled in order: after this one the server's count is exact
			require.NoError(t, held[0].AckConfirmed(t.Context()))
			require.LessOrEqual(t, consumerInfo(t, b.js, "work").NumAckPending, 5)
		} else {
			require.NoError(t, held[0].Ack())
		}
		held = held[1:]
		r.credits <- 1
	}
	require.LessOrEqual(t, most, 5)
	require.Zero(t, r.intake.State().Requeued)
	b.awaitEmpty(t)
}

func TestIntakeWithoutCreditsTakesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 3)
	r := b.run(t, "work", 0)
	info := consumerInfo(t, b.js, "work")
	require.Zero(t, info.NumWaiting)
	require.Zero(t, info.NumAckPending)
	r.credits <- 1
	require.Equal(t, uint64(1), r.next(t).Sequence())
	require.Empty(t, r.got)
}

func TestIntakeSurvivesPoisonedStatusHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	poisons := []nats.Header{
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"409"}, "Description": {"Leadership Change"}},
		{"Status": {"400"}, "Description": {"Bad Request"}},
		{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
		{"Status": {"404"}, "Description": {"No Messages"}},
		{"Status": {"408"}, "Description": {"Request Timeout"}, "Nats-Pending-Messages": {"1000"}},
		{"Status": {"503"}},
	}
	r := b.run(t, "work", 2)
	for _, h := range poisons {
		_, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.jobs.demo.query", Header: h})
		require.NoError(t, err)
		m := r.next(t)
		require.Equal(t, h["Status"], m.Headers()["Status"])
		require.Empty(t, m.Data())
		require.NoError(t, m.Nak(0))
		r.credits <- 1
		m = r.next(t)
		require.Equal(t, uint64(2), m.Deliveries())
		require.False(t, m.First())
		require.NoError(t, m.Ack())
		r.credits <- 1
	}
	state := r.intake.State()
	require.Equal(t, bus.Pulling, state.Phase)
	require.Zero(t, state.Recoveries)
	b.awaitEmpty(t)
}

func TestIntakeHandsBackAtTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 100)
	first := b.run(t, "work", 100)
	for range 3 {
		require.NoError(t, first.next(t).Ack())
	}
	first.stop(t)
	held := drainInto(first)
	require.Equal(t, bus.Stopped, first.intake.State().Phase)
	info := consumerInfo(t, b.js, "work")
	require.Zero(t, info.NumWaiting, "the server still has a request of ours")
	for _, m := range held { // what the worker had not begun
		require.NoError(t, m.Nak(0))
	}
	second := b.run(t, "work", 200)
	start := time.Now()
	for range 97 {
		require.NoError(t, second.next(t).Ack())
	}
	require.Less(t, time.Since(start), 3*time.Second, "AckWait is 10 s: the messages were handed back")
	b.awaitEmpty(t)
}

func drainInto(r *running) []*bus.Message {
	var held []*bus.Message
	for len(r.got) > 0 {
		held = append(held, <-r.got)
	}
	return held
}

func TestNakWithDelay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 1)
	r := b.run(t, "work", 1)
	start := time.Now()
	require.NoError(t, r.next(t).Nak(300*time.Millisecond))
	r.credits <- 1
	m := r.next(t)
	require.Equal(t, uint64(2), m.Deliveries())
	require.GreaterOrEqual(t, time.Since(start), 250*time.Millisecond)
	require.NoError(t, m.AckConfirmed(t.Context()))
	b.awaitEmpty(t)
}

func TestInProgressExtendsTheLease(t *testing.T) {
	t.Parallel()
	top := topology()
	top.AckWait = time.Second
	b := setupTopology(t, top)
	b.publish(t, "query", 1)
	r := b.run(t, "work", 2)
	require.Equal(t, time.Second, r.intake.AckWait())
	m := r.next(t)
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); {
		require.NoError(t, m.InProgress(t.Context()))
		select {
		case <-r.got:
			require.FailNow(t, "delivered again although the lease was extended")
		case <-time.After(300 * time.Millisecond):
		}
	}
	again := r.within(t, 4*time.Second) // and without the sign it comes again
	require.Equal(t, m.Sequence(), again.Sequence())
	require.Equal(t, m.Timestamp(), again.Timestamp())
	require.Equal(t, uint64(2), again.Deliveries())
	require.NoError(t, again.AckConfirmed(t.Context()))
}

func TestInProgressFailsWithoutServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 1)
	r := b.run(t, "work", 1)
	m := r.next(t)
	b.node.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Error(t, m.InProgress(ctx))
	require.Error(t, m.AckConfirmed(ctx))
}

func TestConsumerDeletedAndRecreated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, "work", 3)
	b.publish(t, "query", 1)
	m := r.next(t)
	require.True(t, m.First())
	require.NoError(t, b.js.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	// The intake creates the consumer again, and its unacknowledged message is number 1 once more. If it is faster than the
	// server, which deletes the old consumer's file last, the new one starts with that state: then the message comes when
	// the old lease is over, as the second delivery.
	again := r.within(t, time.Minute)
	require.Equal(t, m.Sequence(), again.Sequence())
	require.LessOrEqual(t, again.Deliveries(), uint64(2))
	require.False(t, again.First(), "stored before the consumer was created")
	require.NoError(t, again.Ack())
	r.credits <- 2
	b.publish(t, "query", 1)
	m = r.next(t)
	require.True(t, m.First())
	require.NoError(t, m.Ack())
	b.awaitEmpty(t)
	require.GreaterOrEqual(t, r.intake.State().Recoveries, uint64(1))
}

func TestConsumerRecreatedWhileBusy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "query", 3)
	r := b.run(t, "work", 2) // both slots busy: no request is open that the server could answer
	for range 2 {
		require.True(t, r.next(t).First())
	}
	config := consumerInfo(t, b.js, "work").Config
	require.NoError(t, b.js.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	_, err := b.js.CreateConsumer(t.Context(), "DBRUNNER_JOBS_demo", config)
	require.NoError(t, err)
	r.credits <- 3
	for range 3 {
		m := r.next(t)
		require.Equal(t, uint64(1), m.Deliveries())
		require.False(t, m.First(), "message %d is in doubt", m.Sequence())
		require.NoError(t, m.Ack())
		r.credits <- 1
	}
	require.Eventually(t, func() bool { // as soon as the new consumer was read
		b.publish(t, "query", 1)
		m := r.next(t)
		require.NoError(t, m.Ack())
		r.credits <- 1
		return m.First()
	}, 10*time.Second, time.Millisecond)
}

func TestConsumerDeletedUnderVerifyIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.conn.Verify(t.Context(), topology()))
	r := b.run(t, "work", 1)
	config := consumerInfo(t, b.js, "work").Config
	require.Eventually(t, func() bool { return r.intake.State().Phase == bus.Pulling }, 5*time.Second, time.Millisecond)
	require.NoError(t, b.js.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	require.Eventually(t, func() bool {
		s := r.intake.State()
		return s.Phase == bus.Recovering && len(s.Reason) > 0
	}, 20*time.Second, 5*time.Millisecond)
	require.NotEmpty(t, b.logs.FilterMessage("intake interrupted").All())
	_, err := b.js.CreateConsumer(t.Context(), "DBRUNNER_JOBS_demo", config)
	require.NoError(t, err)
	b.publish(t, "query", 1)
	require.NoError(t, r.next(t).Ack())
	require.NotEmpty(t, b.logs.FilterMessage("intake goes on").All())
}

func setupTopology(t *testing.T, top bus.Topology) *bundle {
	t.Helper()
	return setupOn(t, bustest.Server(t), top)
}

func consumerInfo(t *testing.T, js jetstream.JetStream, lane string) *jetstream.ConsumerInfo {
	t.Helper()
	c, err := js.Consumer(t.Context(), "DBRUNNER_JOBS_"+database, lane)
	require.NoError(t, err)
	return c.CachedInfo()
}

func TestSlotsAreLentWhileJobsEndQuickly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const credits, steady, quick = 40, 4, 2000
	intake, err := b.conn.OpenIntake(t.Context(), database, "work")
	require.NoError(t, err)
	intake.SetBaseSlots(steady)
	b.publish(t, "query", quick)
	r := start(t, intake, credits)
	most := 0
	for range quick {
		most = max(most, len(r.got))
		require.NoError(t, r.next(t).Ack())
		r.credits <- 1
		most = max(most, intake.State().Outstanding)
	}
	require.Greater(t, most, steady)
	time.Sleep(1200 * time.Millisecond) // by the clock: the last request for lent slots has expired
	require.Eventually(t, func() bool { return intake.State().Outstanding <= steady }, 5*time.Second, 10*time.Millisecond,
		"what was lent is not asked for any longer")

	b.publish(t, "query", credits)
	for range steady {
		r.next(t)
	}
	time.Sleep(200 * time.Millisecond) // by the clock: what must not arrive has had its time
	require.Empty(t, r.got, "jobs that do not end leave the rest to others")
	require.Equal(t, steady, consumerInfo(t, b.js, "work").NumAckPending)
	require.Zero(t, intake.State().Recoveries)
	require.Zero(t, intake.State().Requeued)
}
