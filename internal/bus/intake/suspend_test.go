package intake_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/intake"
)

// A machine that is suspended stops the monotonic clock, too; only the clock of leases goes on. What was on its way then is left
// to expire.
func TestMessagesThatWaitedWhileTheMachineWasSuspended(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.AckWait = time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	var suspended atomic.Int64
	conn, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(suspended.Load())) }
	})
	opened, err := intake.Open(t.Context(), conn, database, "work")
	require.NoError(t, err)
	b.Publish(t, "query", 3)
	credits, got := make(chan int, 1), make(chan *intake.Message, 10)
	credits <- 3
	ended := make(chan error, 1)
	started := false
	go func() {
		ended <- opened.Run(t.Context(), credits, func(m *intake.Message) {
			if !started { // the other two are in the inbox, and the lid is closed for an hour
				started = true
				suspended.Add(int64(time.Hour))
			}
			got <- m
		})
	}()
	next := func() *intake.Message {
		select {
		case m := <-got:
			return m
		case <-time.After(30 * time.Second):
			require.FailNow(t, "nothing is delivered")
			return nil
		}
	}
	first := next()
	require.EqualValues(t, 1, first.Sequence())
	require.NoError(t, first.Ack())
	for range 2 {
		m := next()
		require.EqualValues(t, 2, m.Deliveries(), "sequence %d", m.Sequence())
		require.NoError(t, m.Ack())
	}
	require.EqualValues(t, 2, opened.State().LeftToExpire)
	require.Zero(t, opened.State().Requeued)
}
