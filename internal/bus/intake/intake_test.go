package intake_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/topology"
)

func TestIntakeDeliversInOrder(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 100)
	r := run(t, b.Conn, "work", 7)
	for i := range 100 {
		m := r.Next(t)
		require.Equal(t, fmt.Sprint(i), string(m.Data()))
		require.Equal(t, "query", m.Kind())
		require.Equal(t, database, m.Database())
		require.Equal(t, "dbrunner.jobs.demo.query", m.Subject())
		require.Equal(t, uint64(i+1), m.Sequence())
		require.Equal(t, uint64(1), m.Deliveries())
		require.True(t, m.First())
		require.WithinDuration(t, time.Now(), m.Timestamp(), time.Minute)
		require.NoError(t, m.Ack())
		r.Credits <- 1
	}
	b.AwaitEmpty(t)
}

func TestIntakeNeverHoldsMoreThanItsCredits(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 500)
	r := run(t, b.Conn, "work", 5)
	var held []*intake.Message
	most := 0
	for done := 0; done < 500; {
		if len(held) == 0 || len(r.Got) > 0 {
			held = append(held, r.Next(t))
			most = max(most, len(held))
			continue
		}
		if done++; done%50 == 0 { // acknowledgements are handled in order: after this one the server's count is exact
			require.NoError(t, held[0].AckConfirmed(t.Context()))
			require.LessOrEqual(t, bustest.ConsumerInfo(t, b.JS, "work").NumAckPending, 5)
		} else {
			require.NoError(t, held[0].Ack())
		}
		held = held[1:]
		r.Credits <- 1
	}
	require.LessOrEqual(t, most, 5)
	require.Zero(t, r.Intake.State().Requeued)
	b.AwaitEmpty(t)
}

func TestIntakeWithoutCreditsTakesNothing(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 3)
	r := run(t, b.Conn, "work", 0)
	info := bustest.ConsumerInfo(t, b.JS, "work")
	require.Zero(t, info.NumWaiting)
	require.Zero(t, info.NumAckPending)
	r.Credits <- 1
	require.Equal(t, uint64(1), r.Next(t).Sequence())
	require.Empty(t, r.Got)
}

func TestIntakeSurvivesPoisonedStatusHeaders(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	poisons := []nats.Header{
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"409"}, "Description": {"Leadership Change"}},
		{"Status": {"400"}, "Description": {"Bad Request"}},
		{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
		{"Status": {"404"}, "Description": {"No Messages"}},
		{"Status": {"408"}, "Description": {"Request Timeout"}, "Nats-Pending-Messages": {"1000"}},
		{"Status": {"503"}},
	}
	r := run(t, b.Conn, "work", 2)
	for _, h := range poisons {
		_, err := b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: "dbrunner.jobs.demo.query", Header: h})
		require.NoError(t, err)
		m := r.Next(t)
		require.Equal(t, h["Status"], m.Headers()["Status"])
		require.Empty(t, m.Data())
		require.NoError(t, m.Nak(0))
		r.Credits <- 1
		m = r.Next(t)
		require.Equal(t, uint64(2), m.Deliveries())
		require.False(t, m.First())
		require.NoError(t, m.Ack())
		r.Credits <- 1
	}
	state := r.Intake.State()
	require.Equal(t, intake.Pulling, state.Phase)
	require.Zero(t, state.Recoveries)
	b.AwaitEmpty(t)
}

func TestIntakeRequeuesAtTheEnd(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 100)
	first := run(t, b.Conn, "work", 100)
	for range 3 {
		require.NoError(t, first.Next(t).Ack())
	}
	first.Stop(t)
	held := drainInto(first)
	require.Equal(t, intake.Stopped, first.Intake.State().Phase)
	info := bustest.ConsumerInfo(t, b.JS, "work")
	require.Zero(t, info.NumWaiting, "the server still has a request of ours")
	for _, m := range held { // what the worker had not started
		require.NoError(t, m.Nak(0))
	}
	second := run(t, b.Conn, "work", 200)
	start := time.Now()
	for range 97 {
		require.NoError(t, second.Next(t).Ack())
	}
	require.Less(t, time.Since(start), 3*time.Second, "ack wait is 10 s: the messages were requeued")
	b.AwaitEmpty(t)
}

func drainInto(r *bustest.Running) []*intake.Message {
	var held []*intake.Message
	for len(r.Got) > 0 {
		held = append(held, <-r.Got)
	}
	return held
}

func TestNakWithDelay(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 1)
	r := run(t, b.Conn, "work", 1)
	start := time.Now()
	require.NoError(t, r.Next(t).Nak(300*time.Millisecond))
	r.Credits <- 1
	m := r.Next(t)
	require.Equal(t, uint64(2), m.Deliveries())
	require.GreaterOrEqual(t, time.Since(start), 250*time.Millisecond)
	require.NoError(t, m.AckConfirmed(t.Context()))
	b.AwaitEmpty(t)
}

func TestInProgressExtendsTheLease(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	b.Publish(t, "query", 1)
	r := run(t, b.Conn, "work", 2)
	require.Equal(t, time.Second, r.Intake.AckWait())
	m := r.Next(t)
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); {
		require.NoError(t, m.InProgress(t.Context()))
		select {
		case <-r.Got:
			require.FailNow(t, "delivered again although the lease was extended")
		case <-time.After(300 * time.Millisecond):
		}
	}
	again := r.Within(t, 4*time.Second) // and without the sign it comes again
	require.Equal(t, m.Sequence(), again.Sequence())
	require.Equal(t, m.Timestamp(), again.Timestamp())
	require.Equal(t, uint64(2), again.Deliveries())
	require.NoError(t, again.AckConfirmed(t.Context()))
}

func TestInProgressFailsWithoutServer(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 1)
	r := run(t, b.Conn, "work", 1)
	m := r.Next(t)
	b.Node.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Error(t, m.InProgress(ctx))
	require.Error(t, m.AckConfirmed(ctx))
}

func TestConsumerDeletedAndRecreated(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	r := run(t, b.Conn, "work", 3)
	b.Publish(t, "query", 1)
	m := r.Next(t)
	require.True(t, m.First())
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	// The intake creates the consumer again, and its unacknowledged message is number 1 once more. If it is faster than the
	// server, which deletes the old consumer's file last, the new one starts with that state: then the message comes when
	// the old lease is over, as the second delivery.
	again := r.Within(t, time.Minute)
	require.Equal(t, m.Sequence(), again.Sequence())
	require.LessOrEqual(t, again.Deliveries(), uint64(2))
	require.False(t, again.First(), "stored before the consumer was created")
	require.NoError(t, again.Ack())
	r.Credits <- 2
	b.Publish(t, "query", 1)
	m = r.Next(t)
	require.True(t, m.First())
	require.NoError(t, m.Ack())
	b.AwaitEmpty(t)
	require.GreaterOrEqual(t, r.Intake.State().Recoveries, uint64(1))
}

func TestConsumerRecreatedWhileBusy(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 3)
	r := run(t, b.Conn, "work", 2) // both slots busy: no request is open that the server could answer
	for range 2 {
		require.True(t, r.Next(t).First())
	}
	config := bustest.ConsumerInfo(t, b.JS, "work").Config
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	_, err := b.JS.CreateConsumer(t.Context(), "DBRUNNER_JOBS_demo", config)
	require.NoError(t, err)
	r.Credits <- 3
	for range 3 {
		m := r.Next(t)
		require.Equal(t, uint64(1), m.Deliveries())
		require.False(t, m.First(), "message %d is in doubt", m.Sequence())
		require.NoError(t, m.Ack())
		r.Credits <- 1
	}
	require.Eventually(t, func() bool { // as soon as the new consumer was read
		b.Publish(t, "query", 1)
		m := r.Next(t)
		require.NoError(t, m.Ack())
		r.Credits <- 1
		return m.First()
	}, 10*time.Second, time.Millisecond)
}

func TestConsumerDeletedUnderVerifyIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	r := run(t, b.Conn, "work", 1)
	config := bustest.ConsumerInfo(t, b.JS, "work").Config
	require.Eventually(t, func() bool { return r.Intake.State().Phase == intake.Pulling }, 5*time.Second, time.Millisecond)
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	require.Eventually(t, func() bool {
		s := r.Intake.State()
		return s.Phase == intake.Recovering && len(s.Reason) > 0
	}, 20*time.Second, 5*time.Millisecond)
	logged := func(message string) func() bool { // the state changes first
		return func() bool { return b.Logs.FilterMessage(message).Len() > 0 }
	}
	require.Eventually(t, logged("intake interrupted"), 20*time.Second, 5*time.Millisecond)
	_, err := b.JS.CreateConsumer(t.Context(), "DBRUNNER_JOBS_demo", config)
	require.NoError(t, err)
	b.Publish(t, "query", 1)
	require.NoError(t, r.Next(t).Ack())
	require.Eventually(t, logged("intake resumed"), 20*time.Second, 5*time.Millisecond)
}

func TestBurstSlotsWhileJobsFinishFast(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	const credits, base, quick = 40, 4, 2000
	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	opened.SetBaseSlots(base)
	b.Publish(t, "query", quick)
	r := bustest.Start(t, opened, credits)
	most := 0
	for range quick {
		most = max(most, len(r.Got))
		require.NoError(t, r.Next(t).Ack())
		r.Credits <- 1
		most = max(most, opened.State().Outstanding)
	}
	require.Greater(t, most, base)
	time.Sleep(1200 * time.Millisecond) // by the clock: the last request for burst slots has expired
	require.Eventually(t, func() bool { return opened.State().Outstanding <= base }, 5*time.Second, 10*time.Millisecond,
		"burst slots are no longer requested")

	b.Publish(t, "query", credits)
	for range base {
		r.Next(t)
	}
	time.Sleep(200 * time.Millisecond) // by the clock: what must not arrive has had its time
	require.Empty(t, r.Got, "jobs that do not end leave the rest to others")
	require.Equal(t, base, bustest.ConsumerInfo(t, b.JS, "work").NumAckPending)
	require.Zero(t, opened.State().Recoveries)
	require.Zero(t, opened.State().Requeued)
}

// run runs an intake that looks for orphan messages often.
func run(t *testing.T, conn *bus.Conn, lane string, credits int) *bustest.Running {
	t.Helper()
	return bustest.Run(t, conn, lane, credits, func(i *intake.Intake) { i.SweepEvery(2 * time.Second) })
}
