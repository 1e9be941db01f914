package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/outbox"
	"dbrunner/internal/report"
)

// silentSource has rows without a valid id, and answers to nothing after their claim.
type silentSource struct{ writes atomic.Int64 }

func (s *silentSource) Prepare(context.Context) error { return nil }

func (s *silentSource) Claim(_ context.Context, claim outboxtable.Claim) (*outboxtable.Claimed, error) {
	var c outboxtable.Claimed
	if len(claim.Skip) > 0 {
		return &c, nil
	}
	for i := range 500 {
		c.Rows = append(c.Rows, outboxtable.Row{Token: fmt.Sprint(i), ID: "no id", Target: "jobs.shop.transaction", Body: "{}"})
	}
	return &c, nil
}

func (s *silentSource) silence(ctx context.Context) error {
	s.writes.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (s *silentSource) Delete(ctx context.Context, _ *outboxtable.Claimed, _ []string) (int64, error) {
	return 0, s.silence(ctx)
}

func (s *silentSource) Release(ctx context.Context, _ *outboxtable.Claimed, _ []string, _ time.Duration) error {
	return s.silence(ctx)
}

func (s *silentSource) Fail(ctx context.Context, _ *outboxtable.Claimed, _, _ string) error {
	return s.silence(ctx)
}

func (s *silentSource) Count(context.Context) (outboxtable.Count, error) {
	return outboxtable.Count{}, nil
}

type noPublisher struct{}

func (noPublisher) Ready(ctx context.Context) error { return ctx.Err() }

func (noPublisher) Publish(context.Context, []*report.OutboxMessage) []error { return nil }

func (noPublisher) Retention(context.Context, string) (time.Duration, error) {
	return 48 * time.Hour, nil
}

func TestStoppingDoesNotWaitForEachRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &silentSource{}
		r := outbox.New(outbox.Options{
			Database: "shop", Targets: []outbox.Target{{Text: "jobs.shop.transaction", Database: "shop"}},
			Source: source, Publisher: noPublisher{}, Paused: func() bool { return false }, Logger: zap.NewNop(), Claim: 20 * time.Second,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			_ = r.Run(ctx)
			close(ended)
		}()
		for source.writes.Load() == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		stopped := time.Now()
		cancel()
		<-ended
		require.LessOrEqual(t, time.Since(stopped), 10*time.Second)
	})
}
