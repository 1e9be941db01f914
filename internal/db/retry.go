package db

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/avast/retry-go/v4"
)

// RetryOptions bound the repetitions of a piece of work.
type RetryOptions struct {
	Attempts uint          // calls at most, the first one included; 0 = 1
	Delay    time.Duration // before the second call; doubles for each later one
	MaxDelay time.Duration // cap of a delay; 0 = none
	Budget   time.Duration // no wait begins that would end later than this after the start; 0 = no bound
}

// Retry calls fn until it succeeds, its error is not retryable, or the options say stop. It returns the last
// error of fn, unchanged. Between the calls it waits, each time between half of the delay and the whole of it
// at random, so that those who failed together do not meet again.
//
// When ctx ends while more calls would be due, the error is still fn's last one, in its text and for
// errors.As, and errors.Is finds the cause of ctx in it as well. When ctx has ended before the first call, fn
// is not called and the cause is returned.
func Retry(ctx context.Context, opts RetryOptions, retryable func(error) bool, fn func(context.Context) error) error {
	start := time.Now()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The first call is made here: work that succeeds at once, as nearly all does, allocates nothing.
	first := fn(ctx)
	if first == nil {
		return nil
	}
	return again(ctx, retrier{opts: opts, retryable: retryable, start: start, last: first}, fn)
}

// again goes on after the first call's error, which is in r.
func again(ctx context.Context, r retrier, fn func(context.Context) error) error {
	err := retry.Do(func() error {
		if r.calls > 0 {
			r.last = fn(ctx)
		}
		return r.last
	},
		retry.Context(ctx),
		retry.Attempts(max(r.opts.Attempts, 1)), // 0 would mean without end
		retry.RetryIf(func(err error) bool { return r.due(ctx, err) }),
		retry.DelayType(func(uint, error, *retry.Config) time.Duration { return r.wait }),
		retry.LastErrorOnly(true), // the other form prints every attempt on a line of its own
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

// retrier is the state of one Retry. The library asks whether to go on before it asks how long to wait, so the
// wait is chosen with the answer: it must fit the budget.
type retrier struct {
	opts      RetryOptions
	retryable func(error) bool
	start     time.Time
	calls     uint
	wait      time.Duration // before the next call
	last      error         // of fn
	more      bool          // another call would come, if the context lived
}

// due reports whether another call comes after this error.
func (r *retrier) due(ctx context.Context, err error) bool {
	r.calls++
	r.more = r.calls < r.opts.Attempts && r.retryable(err)
	if !r.more || ctx.Err() != nil {
		return false
	}
	r.wait = r.opts.delay(r.calls)
	if r.opts.Budget > 0 && time.Since(r.start)+r.wait > r.opts.Budget {
		r.more = false
	}
	return r.more
}

// delay is the wait after a number of calls.
func (o RetryOptions) delay(calls uint) time.Duration {
	d := max(o.Delay, time.Millisecond) // never a busy loop
	for range calls - 1 {
		if d > time.Hour || o.MaxDelay > 0 && d >= o.MaxDelay {
			break
		}
		d *= 2
	}
	if o.MaxDelay > 0 {
		d = min(d, o.MaxDelay)
	}
	return d/2 + rand.N(d/2+1)
}

// interruptedError is the last error of work that would have been repeated, had its context not ended.
type interruptedError struct{ last, cause error }

// Error is the work's own error: what went wrong is more than that time is up.
func (e *interruptedError) Error() string { return e.last.Error() }

// Unwrap returns both, the work's own error first.
func (e *interruptedError) Unwrap() []error { return []error{e.last, e.cause} }
