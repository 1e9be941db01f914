package worker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
	"dbrunner/internal/worker"
)

const (
	slots     = 4
	settling  = 2
	graceTime = 30 * time.Second
)

// bench is a lane between fakes, running.
type bench struct {
	t        *testing.T
	stream   *stream
	executor *executor
	results  *results
	outbox   *outbox
	prober   *prober
	gate     *worker.Gate
	pause    *worker.Pause
	lane     *worker.Lane

	mu     sync.Mutex
	events []report.Event

	stopWork, stopIntake, stopGate context.CancelFunc
	running                        sync.WaitGroup
	ended                          chan struct{} // Run has returned
}

// setup makes a lane; change may alter its options before it is made. start starts it.
func setup(t *testing.T, run func(context.Context, *delivery.Delivery, func() error) delivery.Outcome, change ...func(*bench, *worker.Options)) *bench {
	t.Helper()
	s := newStream()
	b := &bench{
		t: t, stream: s, results: newResults(s), outbox: &outbox{stream: s}, prober: &prober{}, pause: &worker.Pause{}, ended: make(chan struct{}),
		executor: &executor{stream: s, run: run, taken: func(out delivery.Outcome, _ []byte) delivery.Outcome {
			out.Store, out.Duplicate = nil, true
			return out
		}},
	}
	var err error
	b.gate, err = worker.NewGate(worker.GateOptions{Database: "db", Prober: b.prober, Logger: zap.NewNop()})
	require.NoError(t, err)
	opts := worker.Options{
		Database: "db", Name: "work", Slots: slots, MaxSettling: settling, AckWait: ackWait, UnreachableGrace: graceTime,
		Intake: s, Executor: b.executor, Results: b.results, Outbox: b.outbox, Gate: b.gate, Pause: b.pause,
		Quarantine: worker.NewQuarantine(), Outlives: []string{"statement"},
		Observer: b, Logger: zap.NewNop(),
	}
	for _, c := range change {
		c(b, &opts)
	}
	b.lane, err = worker.New(opts)
	require.NoError(t, err)
	return b
}

func (b *bench) Finished(e report.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

func (b *bench) start() {
	var work, intake, gate context.Context
	work, b.stopWork = context.WithCancel(context.Background())
	intake, b.stopIntake = context.WithCancel(work)
	gate, b.stopGate = context.WithCancel(context.Background())
	b.running.Go(func() { _ = b.gate.Run(gate) })
	b.running.Go(func() {
		_ = b.lane.Run(work, intake)
		close(b.ended)
	})
}

// stop drains the lane, and checks that nothing is held afterwards and that nothing happened that must not.
func (b *bench) stop() {
	b.t.Helper()
	b.stopIntake()
	<-b.ended
	b.stopWork()
	b.stopGate()
	b.running.Wait()
	b.check()
}

func (b *bench) check() {
	b.t.Helper()
	state := b.lane.State()
	require.Zero(b.t, state.SlotsInUse)
	require.Zero(b.t, state.Settling)
	require.Empty(b.t, b.stream.found())
	require.LessOrEqual(b.t, b.executor.most(), slots)
}

// after lets a time pass, and everything that happens in it.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
