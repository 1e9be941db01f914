package worker

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff yields pauses that double from first to limit, each with jitter.
type backoff struct {
	first, limit, current time.Duration
}

func newBackoff(first, limit time.Duration) backoff { return backoff{first: first, limit: limit} }

func (b *backoff) reset() { b.current = 0 }

// sleep waits for the next pause, or returns the context's cause when that ends before.
func (b *backoff) sleep(ctx context.Context) error {
	b.current = min(max(2*b.current, b.first), b.limit)
	return sleep(ctx, jitter(b.current))
}

// sleep waits for d, or returns the context's cause when that ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// jitter returns between 80 and 100 % of d, so that many of a kind drift apart and none comes late.
func jitter(d time.Duration) time.Duration { return d - time.Duration(rand.Int64N(int64(d)/5+1)) }

// between returns a random duration from low to high.
func between(low, high time.Duration) time.Duration {
	return low + time.Duration(rand.Int64N(int64(high-low)+1))
}
