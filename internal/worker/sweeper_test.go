package worker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/worker"
)

// ledger holds the times of its rows.
type ledger struct {
	mu      sync.Mutex
	rows    []time.Time
	skew    time.Duration // of the server's clock
	err     error
	batches []int
	asked   time.Time // when the clock was read
}

func (l *ledger) Now(context.Context) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = time.Now()
	return time.Now().Add(l.skew), l.err
}

func (l *ledger) lastAsked() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *ledger) Sweep(_ context.Context, before time.Time, limit int) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []time.Time
	deleted := 0
	for _, at := range l.rows {
		if at.Before(before) && deleted < limit {
			deleted++
			continue
		}
		kept = append(kept, at)
	}
	l.rows = kept
	l.batches = append(l.batches, deleted)
	return deleted, l.err
}

// backlog is a stream with at most one message; looking takes time.
type backlog struct {
	oldest time.Time
	found  bool
	err    error
	took   time.Duration
}

func (b *backlog) Oldest(context.Context) (time.Time, bool, error) {
	time.Sleep(b.took)
	return b.oldest, b.found, b.err
}

const retention = 48 * time.Hour

func newSweeper(t *testing.T, l *ledger, b *backlog, p *prober) (*worker.Sweeper, *worker.Gate) {
	t.Helper()
	gate, err := worker.NewGate(worker.GateOptions{Database: "db", Prober: p, Logger: zap.NewNop()})
	require.NoError(t, err)
	s, err := worker.NewSweeper(worker.SweeperOptions{
		Database: "db", Ledger: l, Backlog: b, Gate: gate, Retention: retention, Interval: time.Minute,
		Timeout: 5 * time.Second, Batch: 10, Logger: zap.NewNop(),
	})
	require.NoError(t, err)
	return s, gate
}

// aged returns n rows of an age.
func aged(n int, age time.Duration) []time.Time {
	rows := make([]time.Time, n)
	for i := range rows {
		rows[i] = time.Now().Add(-age)
	}
	return rows
}

func TestSweeperDeletesInBatchesWhatNoMessageCanMeet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{rows: append(aged(25, retention+time.Hour), aged(5, retention-time.Hour)...)}
		s, _ := newSweeper(t, l, &backlog{}, &prober{})
		require.NoError(t, s.Sweep(t.Context()))
		require.Equal(t, []int{10, 10, 5}, l.batches)
		require.Len(t, l.rows, 5)
		state := s.State()
		require.EqualValues(t, 25, state.Deleted)
		require.Zero(t, state.HeldBackBy)
		require.Empty(t, state.Error)
	})
}

func TestSweeperIsHeldBackByTheOldestMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{rows: append(aged(3, retention+3*time.Hour), aged(4, retention+time.Hour)...)}
		oldest := time.Now().Add(-2 * time.Hour)
		s, _ := newSweeper(t, l, &backlog{oldest: oldest, found: true}, &prober{})
		require.NoError(t, s.Sweep(t.Context()))
		require.Len(t, l.rows, 4, "a message two hours old may still meet these")
		require.True(t, s.State().HeldBackBy.Equal(oldest))
		require.True(t, s.State().Before.Equal(oldest.Add(-retention)))
	})
}

func TestSweeperReadsTheClockBeforeItLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		l := &ledger{}
		s, _ := newSweeper(t, l, &backlog{took: 3 * time.Second}, &prober{})
		require.NoError(t, s.Sweep(t.Context()))
		require.True(t, s.State().Before.Equal(start.Add(-retention)))
	})
}

func TestSweeperTakesTheEarlierOfTwoClocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{skew: -time.Hour}
		s, _ := newSweeper(t, l, &backlog{oldest: time.Now(), found: true}, &prober{})
		require.NoError(t, s.Sweep(t.Context()))
		require.True(t, s.State().Before.Equal(time.Now().Add(-time.Hour-retention)))
	})
}

func TestSweeperRunsWhileTheGateIsOpenAndGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &prober{err: errDown}
		l := &ledger{err: errDown, rows: aged(3, retention+time.Hour)}
		s, gate := newSweeper(t, l, &backlog{}, p)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = gate.Run(ctx) })
		running.Go(func() { _ = s.Run(ctx) })
		after(5 * time.Minute)
		require.Zero(t, l.lastAsked(), "nothing is asked of a database that does not answer")
		p.set(nil)
		after(2 * time.Minute)
		require.Contains(t, s.State().Error, "read the server's clock")
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		after(2 * time.Minute)
		require.Empty(t, s.State().Error)
		require.EqualValues(t, 3, s.State().Deleted)
		stop()
		running.Wait()
	})
}
