package worker_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
	"dbrunner/internal/worker"
)

// follower records the calls of a trace.
type follower struct {
	mu    sync.Mutex
	steps map[uint64][]report.Step
	ends  map[uint64][]report.Disposition
}

type followed struct {
	*follower
	sequence uint64
}

type traceKey struct{}

func (f *follower) Start(_ string, d *delivery.Delivery) worker.Trace {
	return &followed{f, d.Sequence}
}

func (f *followed) Step(s report.Step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps[f.sequence] = append(f.steps[f.sequence], s)
}

func (f *followed) Failed(string) {}

func (f *followed) ID() string { return "trace" }

func (f *followed) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, f.sequence)
}

func (f *followed) End(e report.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[f.sequence] = append(f.ends[f.sequence], e.Disposition)
}

// Each delivery that a trace follows ends once, however it leaves; a published result belongs to it.
func TestTracesEndOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &follower{steps: map[uint64][]report.Step{}, ends: map[uint64][]report.Disposition{}}
		b := setup(t, work(time.Second, contract.Succeeded), func(b *bench, o *worker.Options) {
			o.Tracer, o.Results = f, &tracedResults{b.results, t}
		})
		b.stream.publish(slots, 0)
		b.start()
		after(2 * time.Second)
		b.stop()
		require.Len(t, f.ends, slots)
		for sequence, ends := range f.ends {
			require.Equal(t, []report.Disposition{report.Settled}, ends)
			require.True(t, slices.Contains(f.steps[sequence], report.StepPublish))
		}
	})
}

// A delivery that is requeued before its start has a trace that shows it.
func TestTraceOfARequeuedDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &follower{steps: map[uint64][]report.Step{}, ends: map[uint64][]report.Disposition{}}
		b := setup(t, func(ctx context.Context, _ *delivery.Delivery, _ func() error) delivery.Outcome {
			<-ctx.Done() // no connection is free
			return delivery.Outcome{Action: delivery.Undecided}
		}, func(_ *bench, o *worker.Options) { o.Tracer = f })
		b.stream.publish(3, 0)
		b.start()
		after(time.Second)
		b.stop()
		require.Len(t, f.ends, 3)
		for _, ends := range f.ends {
			require.Equal(t, []report.Disposition{report.Drained}, ends)
		}
	})
}

// tracedResults checks that what is stored belongs to a trace.
type tracedResults struct {
	*results
	t *testing.T
}

func (r *tracedResults) Store(ctx context.Context, jobID string, body []byte) (report.StoreVerdict, error) {
	require.NotNil(r.t, ctx.Value(traceKey{}))
	return r.results.Store(ctx, jobID, body)
}
