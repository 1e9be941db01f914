package delivery

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

var errStop = errors.New("stop")

func transient() error {
	return db.Errorf(db.ClassTransient, contract.CodeDeadlock, "deadlock detected")
}

func isTransient(err error) bool { return db.ClassOf(err) == db.ClassTransient }

// calls counts calls and notes when they came; the nth returns the nth error, the last one again and again.
type calls struct {
	errs []error
	at   []time.Time
}

func (c *calls) fn(context.Context) error {
	c.at = append(c.at, time.Now())
	return c.errs[min(len(c.at), len(c.errs))-1]
}

func TestRetryUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &calls{errs: []error{transient(), transient(), nil}}
		opts := jobs.RetryPolicy{Attempts: 5, Delay: 100 * time.Millisecond}
		require.NoError(t, retry(t.Context(), opts, isTransient, c.fn))
		require.Len(t, c.at, 3)
		requireBetween(t, c.at[1].Sub(c.at[0]), 50*time.Millisecond, 100*time.Millisecond)
		requireBetween(t, c.at[2].Sub(c.at[1]), 100*time.Millisecond, 200*time.Millisecond)
	})
}

func requireBetween(t *testing.T, d, low, high time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, d, low)
	require.LessOrEqual(t, d, high)
}

func TestRetryStops(t *testing.T) {
	t.Parallel()
	permanent := db.Errorf(db.ClassPermanent, contract.CodeSyntax, "no")
	for _, tc := range []struct {
		name  string
		opts  jobs.RetryPolicy
		errs  []error
		calls int
		last  int // index of the error that is returned
	}{
		{"at an error that is not retryable", jobs.RetryPolicy{Attempts: 9, Delay: 1}, []error{transient(), permanent}, 2, 1},
		{"after the attempts", jobs.RetryPolicy{Attempts: 3, Delay: 1}, []error{transient(), transient(), transient()}, 3, 2},
		{"after one", jobs.RetryPolicy{Attempts: 1}, []error{transient()}, 1, 0},
		{"after one when nothing is said", jobs.RetryPolicy{}, []error{transient()}, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &calls{errs: tc.errs}
				err := retry(t.Context(), tc.opts, isTransient, c.fn)
				require.Same(t, tc.errs[tc.last], err, "the last error itself, not a list")
				require.Len(t, c.at, tc.calls)
			})
		})
	}
}

func TestRetryKeepsItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &calls{errs: []error{transient()}}
		start := time.Now()
		opts := jobs.RetryPolicy{Attempts: 17, Delay: time.Second, MaxDelay: 4 * time.Second}
		require.Error(t, retry(t.Context(), opts, isTransient, c.fn))
		requireBetween(t, time.Since(start), 29*time.Second, time.Minute)
		for i := 4; i < len(c.at); i++ {
			requireBetween(t, c.at[i].Sub(c.at[i-1]), 2*time.Second, 4*time.Second)
		}
	})
}

func TestRetryCostsNothingWhenTheFirstCallSucceeds(t *testing.T) { //nolint:paralleltest // counts allocations
	ctx, fn := context.Background(), func(context.Context) error { return nil }
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = retry(ctx, jobs.RetryPolicy{Attempts: 5}, isTransient, fn)
	}))
}

func TestRetryNeverSpins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &calls{errs: []error{transient()}}
		require.Error(t, retry(t.Context(), jobs.RetryPolicy{Attempts: 80}, isTransient, c.fn))
		require.Len(t, c.at, 80)
		require.Greater(t, c.at[79].Sub(c.at[0]), time.Second, "no delay given, and it doubles without overflow")
	})
}

func TestRetryContextEndsDuringTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStop) })
		c, start := &calls{errs: []error{transient()}}, time.Now()
		err := retry(ctx, jobs.RetryPolicy{Attempts: 9, Delay: time.Minute}, isTransient, c.fn)
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, db.ClassTransient, db.ClassOf(err), "the work's own error is there")
		require.Equal(t, transient().Error(), err.Error())
		require.ErrorIs(t, err, errStop, "and so is the cause")
	})
}

func TestRetryContextEndsDuringTheCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	n := 0
	err := retry(ctx, jobs.RetryPolicy{Attempts: 9}, isTransient, func(context.Context) error {
		n++
		cancel(errStop)
		return transient()
	})
	require.Equal(t, 1, n)
	require.ErrorIs(t, err, errStop)
	require.Equal(t, db.ClassTransient, db.ClassOf(err))

	n = 0
	ctx, cancel = context.WithCancelCause(t.Context())
	err = retry(ctx, jobs.RetryPolicy{Attempts: 2}, isTransient, func(context.Context) error {
		if n++; n == 2 {
			cancel(errStop)
		}
		return transient()
	})
	require.Equal(t, 2, n)
	require.NotErrorIs(t, err, errStop, "it was the last call anyway")
}

func TestRetryContextEndedBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	err := retry(ctx, jobs.RetryPolicy{Attempts: 9}, isTransient, func(context.Context) error {
		t.Error("called")
		return nil
	})
	require.ErrorIs(t, err, errStop)
}
