package bustest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/intake"
)

// Running is an intake that runs until stop or the test's end.
type Running struct {
	Intake  *intake.Intake
	Credits chan int
	Got     chan *intake.Message

	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// Run runs the intake of a lane of Database; change may change it before.
func Run(t *testing.T, conn *bus.Conn, lane string, credits int, change ...func(*intake.Intake)) *Running {
	t.Helper()
	opened, err := intake.Open(t.Context(), conn, Database, lane)
	require.NoError(t, err)
	for _, f := range change {
		f(opened)
	}
	return Start(t, opened, credits)
}

// Start runs an opened intake.
func Start(t *testing.T, opened *intake.Intake, credits int) *Running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &Running{
		Intake: opened, Credits: make(chan int, 1<<16), Got: make(chan *intake.Message, 1<<16), cancel: cancel, done: make(chan error, 1),
	}
	if credits > 0 {
		r.Credits <- credits
	}
	go func() { r.done <- opened.Run(ctx, r.Credits, func(m *intake.Message) { r.Got <- m }) }()
	t.Cleanup(func() { r.Stop(t) })
	return r
}

// Stop ends the intake and waits for its end.
func (r *Running) Stop(t *testing.T) {
	t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "the intake does not stop")
		}
	})
}

// Next returns the next message.
func (r *Running) Next(t *testing.T) *intake.Message {
	t.Helper()
	return r.Within(t, 15*time.Second)
}

// Within is Next with a limit of its own.
func (r *Running) Within(t *testing.T, limit time.Duration) *intake.Message {
	t.Helper()
	select {
	case m := <-r.Got:
		return m
	case <-time.After(limit):
		require.FailNow(t, "no message", "state: %+v", r.Intake.State())
		return nil
	}
}
