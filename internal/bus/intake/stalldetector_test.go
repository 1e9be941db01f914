package intake_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/intake"
)

// What has waited while the process was stopped may be another runner's: it is neither started nor requeued, and comes
// again when its lease is over.
func TestMessagesThatWaitedWhileTheProcessWasStopped(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	b.Publish(t, "query", 200)
	credits, got := make(chan int, 1000), make(chan *intake.Message, 1000)
	credits <- 3
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	stopped := false
	go func() {
		ended <- opened.Run(ctx, credits, func(m *intake.Message) {
			if !stopped { // the goroutine that reads stands still, as all of them do in a stopped process
				stopped = true
				time.Sleep(700 * time.Millisecond) // by the clock: longer than half of the ack wait
			}
			got <- m
		})
	}()
	first := <-got
	require.EqualValues(t, 1, first.Sequence())
	require.NoError(t, first.Ack())
	credits <- 1
	for range 199 {
		m := <-got
		if m.Sequence() <= 3 {
			require.EqualValues(t, 2, m.Deliveries(), "sequence %d", m.Sequence())
			require.False(t, m.First())
		}
		require.NoError(t, m.Ack())
		credits <- 1
	}
	require.EqualValues(t, 2, opened.State().LeftToExpire, "no more than were on the way")
	require.Zero(t, opened.State().Requeued)
	cancel()
	require.NoError(t, <-ended)
	b.AwaitEmpty(t)
}

// The same at the end: what is in the inbox of a process that was stopped and is asked to end is not requeued.
func TestEndOfAProcessThatWasStopped(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	opened, err := intake.Open(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	b.Publish(t, "query", 3)
	credits := make(chan int, 1)
	credits <- 3
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, opened.Run(ctx, credits, func(m *intake.Message) {
		cancel()
		time.Sleep(700 * time.Millisecond) // by the clock: longer than half of the ack wait
		require.NoError(t, m.Ack())
	}))
	require.EqualValues(t, 2, opened.State().LeftToExpire)
	require.Zero(t, opened.State().Requeued)
}
