package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/worker"
)

// plan is what a run of the property is drawn from.
type plan struct {
	seed    uint64
	jobs    int
	runners int
	faults  []fault
}

// fault is a disturbance at a time; it heals after another.
type fault struct {
	what        string
	runner      int
	after, last time.Duration
}

func drawPlan(t *rapid.T) plan {
	p := plan{
		seed: rapid.Uint64().Draw(t, "seed"), jobs: rapid.IntRange(1, 60).Draw(t, "jobs"),
		runners: rapid.IntRange(1, 3).Draw(t, "runners"),
	}
	kinds := []string{"bus down", "database down", "results full", "results down", "dead letters down", "drain", "stop", "kill"}
	for i := range rapid.IntRange(0, 8).Draw(t, "faults") {
		p.faults = append(p.faults, fault{
			what:   rapid.SampledFrom(kinds).Draw(t, fmt.Sprint("what ", i)),
			runner: rapid.IntRange(0, p.runners-1).Draw(t, fmt.Sprint("runner ", i)),
			after:  time.Duration(rapid.IntRange(0, 20_000).Draw(t, fmt.Sprint("after ", i))) * time.Millisecond,
			last:   time.Duration(rapid.IntRange(1, 60_000).Draw(t, fmt.Sprint("lasting ", i))) * time.Millisecond,
		})
	}
	return p
}

// Under any failure of bus, database, results and runners, each job gets one stored result and leaves the stream, in
// the right order, with one verb a delivery at most, none of them a hand-back after a lost lease.
func TestLaneProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = newWorld(t, p).run() })
		if len(problems) > 0 {
			rt.Fatalf("%v", problems)
		}
	})
}

// world is a stream, a results store, a database, and some runners.
type world struct {
	t        *testing.T
	plan     plan
	stream   *stream
	results  *results
	outbox   *outbox
	prober   *prober
	server   database
	mu       sync.Mutex
	random   *rand.Rand
	runners  []*mortalRunner
	problems []string
}

// mortalRunner is one life of a runner.
type mortalRunner struct {
	lane                       *worker.Lane
	executor                   *executor
	stopWork, stopIntake, stop context.CancelFunc
	running                    sync.WaitGroup
}

func newWorld(t *testing.T, p plan) *world {
	t.Helper()
	s := newStream()
	return &world{
		t: t, plan: p, stream: s, results: newResults(s), outbox: &outbox{stream: s}, prober: &prober{},
		random: rand.New(rand.NewPCG(p.seed, 0)), //nolint:gosec // a test's dice
	}
}

func (w *world) run() []string {
	for range w.plan.runners {
		w.runners = append(w.runners, w.newRunner())
	}
	w.stream.publish(w.plan.jobs, 0)
	for _, f := range w.plan.faults {
		after(f.after)
		w.strike(f)
	}
	after(2 * time.Minute) // faults that last
	after(10 * time.Minute)
	if left := w.stream.left(); left > 0 {
		w.problem("%d jobs are left", left)
	}
	for i := range w.runners {
		w.end(i)
	}
	after(time.Minute)
	w.judge()
	return append(w.problems, w.stream.found()...)
}

func (w *world) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// newRunner starts a runner. Its executor keeps the ledger's promise in short: a delivery in doubt looks first.
func (w *world) newRunner() *mortalRunner {
	r := &mortalRunner{executor: &executor{stream: newStream(), run: w.execute, taken: takenByOwn}}
	gate, err := worker.NewGate(worker.GateOptions{Database: "db", Prober: w.prober, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	r.lane, err = worker.New(worker.Options{
		Database: "db", Name: "work", Slots: slots, MaxSettling: settling, AckWait: ackWait, UnreachableGrace: graceTime,
		Intake: w.stream, Executor: r.executor, Results: w.results, Outbox: w.outbox, Gate: gate,
		Quarantine: worker.NewQuarantine(), Logger: zap.NewNop(),
	})
	if err != nil {
		panic(err)
	}
	var work, intake, life context.Context
	work, r.stopWork = context.WithCancel(context.Background())
	intake, r.stopIntake = context.WithCancel(work)
	life, r.stop = context.WithCancel(context.Background())
	r.running.Go(func() { _ = gate.Run(life) })
	r.running.Go(func() { _ = r.lane.Run(work, intake); r.stop() })
	return r
}

func takenByOwn(out delivery.Outcome, _ []byte) delivery.Outcome {
	out.Store, out.Duplicate = nil, true
	return out
}

func (w *world) execute(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
	status := contract.Succeeded
	if d.Sequence%3 == 0 {
		status = contract.Failed
	}
	if d.MaybeRedelivered && w.results.get(strconv.FormatUint(d.Sequence, 10)) != "" {
		out := settled(d, status)
		out.Store, out.Started, out.Duplicate = nil, false, true
		return out
	}
	if w.server.down.Load() {
		return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown}
	}
	w.mu.Lock()
	dice, wait, took := w.random.IntN(100), w.random.IntN(3000), w.random.IntN(8000)
	w.mu.Unlock()
	select {
	case <-time.After(time.Duration(wait) * time.Millisecond): // for a connection
	case <-ctx.Done():
		return delivery.Outcome{Action: delivery.Undecided}
	}
	switch {
	case dice < 3:
		panic("now and then")
	case dice < 6:
		return delivery.Outcome{Action: delivery.Undecided}
	case dice < 9:
		took += 30_000
	}
	out := work(time.Duration(took)*time.Millisecond, status)(ctx, d, begin)
	if out.Action == delivery.Settle && w.server.down.Load() {
		return delivery.Outcome{Action: delivery.AwaitDatabase, Reason: errDown, Started: true}
	}
	return out
}

func (w *world) strike(f fault) {
	heal := func(do func()) { time.AfterFunc(f.last, do) }
	switch f.what {
	case "bus down":
		w.stream.setDown(true)
		heal(func() { w.stream.setDown(false) })
	case "database down":
		w.server.down.Store(true)
		w.prober.set(errDown)
		heal(func() { w.server.down.Store(false); w.prober.set(nil) })
	case "results full":
		w.results.set(func(r *results) { r.full = true })
		heal(func() { w.results.set(func(r *results) { r.full = false }) })
	case "results down":
		w.results.set(func(r *results) { r.err = errDown })
		heal(func() { w.results.set(func(r *results) { r.err = nil }) })
	case "dead letters down":
		w.outbox.set(errDown)
		time.AfterFunc(min(f.last, time.Second), func() { w.outbox.set(nil) }) // a longer loss loses dead letters
	case "drain":
		w.runners[f.runner].stopIntake()
		after(f.last)
		w.end(f.runner)
		w.runners[f.runner] = w.newRunner()
	case "stop":
		w.end(f.runner)
		w.runners[f.runner] = w.newRunner()
	case "kill": // of all together: the stream cannot distinguish them
		w.stream.kill()
	}
}

// end stops a runner and checks what it leaves.
func (w *world) end(i int) {
	r := w.runners[i]
	r.stopIntake()
	r.stopWork()
	r.running.Wait()
	state := r.lane.State()
	if state.SlotsInUse != 0 || state.Settling != 0 {
		w.problem("%d and %d are held after the end", state.SlotsInUse, state.Settling)
	}
	if r.executor.most() > slots {
		w.problem("%d ran concurrently", r.executor.most())
	}
	w.problems = append(w.problems, r.executor.stream.found()...)
}

// judge checks each job's journal.
func (w *world) judge() {
	for sequence := uint64(1); sequence <= w.stream.sequence; sequence++ {
		journal := w.stream.of(sequence)
		stored, acked := slices.Index(journal, "store"), ackedAt(journal)
		switch {
		case stored < 0:
			w.problem("job %d: no result: %v", sequence, journal)
		case acked < stored:
			w.problem("job %d: acknowledged before its result was stored: %v", sequence, journal)
		case slices.Contains(journal[stored+1:], "store"):
			w.problem("job %d: two results: %v", sequence, journal)
		case !slices.Contains(journal[:acked], "reply"):
			w.problem("job %d: acknowledged before its reply: %v", sequence, journal)
		case sequence%3 == 0 && !slices.Contains(journal[:acked], "dead letter"):
			w.problem("job %d: acknowledged before its dead letter: %v", sequence, journal)
		}
	}
}

func ackedAt(journal []string) int {
	return slices.IndexFunc(journal, func(what string) bool { return what == "ack" || what == "ack confirmed" })
}
