package delivery

import (
	"context"
	"math/rand/v2"
	"time"

	retrygo "github.com/avast/retry-go/v4"

	"dbrunner/internal/jobs"
)

// retry calls fn until it succeeds, its error is not retryable, or the policy allows no more calls. It returns the last
// error of fn, unchanged. Between the calls it waits, each time between half of the delay and the whole of it
// at random, so that those who failed together do not meet again.
//
// When ctx ends while more calls would be due, the error is still fn's last one, in its text and for
// errors.As, and errors.Is finds the cause of ctx in it as well. When ctx has ended before the first call, fn
// is not called and the cause is returned.
func retry(ctx context.Context, policy jobs.RetryPolicy, retryable func(error) bool, fn func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The first call is made here: work that succeeds immediately, as nearly all does, allocates nothing.
	first := fn(ctx)
	if first == nil {
		return nil
	}
	return again(ctx, retrier{policy: policy, retryable: retryable, last: first}, fn)
}

// again goes on after the first call's error, which is in r.
func again(ctx context.Context, r retrier, fn func(context.Context) error) error {
	err := retrygo.Do(func() error {
		if r.calls > 0 {
			r.last = fn(ctx)
		}
		return r.last
	},
		retrygo.Context(ctx),
		retrygo.Attempts(max(r.policy.Attempts, 1)), // 0 would mean without end
		retrygo.RetryIf(func(err error) bool { return r.due(ctx, err) }),
		retrygo.DelayType(func(uint, error, *retrygo.Config) time.Duration { return r.wait }),
		retrygo.LastErrorOnly(true), // the other form prints every attempt on a line of its own
	)
	if r.calls == 0 {
		r.due(ctx, r.last) // ctx had ended during the first call, and the library looked at nothing else
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && r.more:
		return &interruptedError{last: r.last, cause: context.Cause(ctx)}
	}
	return r.last
}

// retrier is the state of one call of retry.
type retrier struct {
	policy    jobs.RetryPolicy
	retryable func(error) bool
	calls     uint
	wait      time.Duration // before the next call
	last      error         // of fn
	more      bool          // another call would come, if the context lived
}

// due reports whether another call comes after this error.
func (r *retrier) due(ctx context.Context, err error) bool {
	r.calls++
	r.more = r.calls < r.policy.Attempts && r.retryable(err)
	if !r.more || ctx.Err() != nil {
		return false
	}
	r.wait = delayAfter(r.policy, r.calls)
	return true
}

// delayAfter is the wait after a number of calls.
func delayAfter(p jobs.RetryPolicy, calls uint) time.Duration {
	d := max(p.Delay, time.Millisecond) // never a busy loop
	for range calls - 1 {
		if d > time.Hour || p.MaxDelay > 0 && d >= p.MaxDelay {
			break
		}
		d *= 2
	}
	if p.MaxDelay > 0 {
		d = min(d, p.MaxDelay)
	}
	return d/2 + rand.N(d/2+1)
}

// interruptedError is the last error of work that would have been repeated, had its context not ended.
type interruptedError struct{ last, cause error }

// Error is the work's own error: what went wrong is more than that time is up.
func (e *interruptedError) Error() string { return e.last.Error() }

// Unwrap returns both, the work's own error first.
func (e *interruptedError) Unwrap() []error { return []error{e.last, e.cause} }
