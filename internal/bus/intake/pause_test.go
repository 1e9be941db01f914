package intake_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/report"
)

// TestAPausedIntakeHandsOverWhatArrives while it stops: a requeue would count as a delivery.
func TestAPausedIntakeHandsOverWhatArrives(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	const jobs = 20
	handed := 0
	for published := 0; handed == 0; published += jobs { // until some arrive in time
		require.Less(t, published, 50*jobs, "none arrives while the intake stops")
		opened, err := intake.Open(t.Context(), b.Conn, database, "work")
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		credits, done := make(chan int, 1), make(chan error, 1)
		credits <- jobs
		arrived := make(chan *intake.Message, jobs)
		go func() { done <- opened.Run(ctx, credits, func(m *intake.Message) { arrived <- m }) }()
		require.Eventually(t, func() bool { return bustest.ConsumerInfo(t, b.JS, "work").NumWaiting > 0 }, 20*time.Second, time.Millisecond)
		cancel(report.ErrPaused)
		bustest.PublishFrom(t, b.JS, "query", published, jobs)
		require.NoError(t, <-done)
		require.Zero(t, bustest.ConsumerInfo(t, b.JS, "work").NumWaiting, "nothing is pulled")
		handed = len(arrived)
		close(arrived)
		for m := range arrived {
			require.EqualValues(t, 1, m.Deliveries())
			require.NoError(t, m.AckConfirmed(t.Context()))
		}
		rest := run(t, b.Conn, "work", jobs)
		for range jobs - handed {
			m := rest.Next(t)
			require.EqualValues(t, 1, m.Deliveries(), "none was requeued")
			require.NoError(t, m.AckConfirmed(t.Context()))
		}
		rest.Stop(t)
	}
	b.AwaitEmpty(t)
}
