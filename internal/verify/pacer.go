package verify

import (
	"context"
	"fmt"
	"time"
)

// pacer spaces what is read, so that no more than a number of records per second are.
type pacer struct {
	rate  int
	start time.Time
	taken int
}

// take waits until n more records may have been read.
func (p *pacer) take(ctx context.Context, n int) error {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	p.taken += n
	due := p.start.Add(time.Duration(float64(p.taken) / float64(p.rate) * float64(time.Second)))
	return pause(ctx, time.Until(due))
}

// pause waits, at most until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return interrupted(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

func interrupted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopped before everything was read: %w", err)
	}
	return nil
}
