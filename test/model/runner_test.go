package model

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/worker"
)

const (
	slots     = 2
	settling  = 1
	ackWait   = 12 * time.Second // its twelfth is a second, as are the steps of time: what is due is due in the same step
	graceTime = 6 * time.Second
	// maxDeliveries is above the delivery from which on jobs are in quarantine.
	maxDeliveries = 5
)

var (
	errDead     = errors.New("the runner is dead")
	errLeft     = fmt.Errorf("%w, and the server goes on with the call", errDead)
	errNoAnswer = errors.New("no answer")
)

// runner is one life of a runner: the real lane, gate and executor between fakes.
type runner struct {
	w        *world
	name     string
	lane     *worker.Lane
	executor *delivery.Executor
	dead     chan struct{} // closed at its death

	stopWork, stopIntake context.CancelFunc
	running              sync.WaitGroup
	inbox                chan arrival

	// Guarded by the world.
	died, stopping bool
	open           bool // its intake is running
	free           int  // credits
	canceled       map[string]time.Time
}

// arrival is a delivery on its way into a runner.
type arrival struct {
	delivery delivery.Delivery
	message  *delivered
}

// newRunner starts a runner's life. The configuration of a strict one allows reads alone.
func (w *world) newRunner(name string, strict bool) *runner {
	r := &runner{w: w, name: name, dead: make(chan struct{}), inbox: make(chan arrival), canceled: map[string]time.Time{}}
	gate, err := worker.NewGate(worker.GateOptions{Database: "shop", Prober: r, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	var effects []contract.Effect
	if strict {
		effects = []contract.Effect{contract.ReadOnly}
	}
	r.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: name, Database: &link{r: r}, Results: r, Cancellations: r,
		MaxBody: 1 << 20, MaxResult: 1 << 20,
		Policy: &jobs.Policy{
			Effects: effects, Ledger: true, Timeout: time.Minute, MaxTimeout: time.Minute, MaxRows: 100, MaxBytes: 1 << 16,
			DeadLetters: contract.DeadLetterReasons(), MaxDeliveries: maxDeliveries,
			Retry: jobs.RetryPolicy{Attempts: 2, Delay: time.Millisecond, MaxDelay: time.Millisecond},
		},
	})
	if err != nil {
		panic(err)
	}
	r.lane, err = worker.New(worker.Options{
		Database: "shop", Name: "work", Slots: slots, MaxSettling: settling, AckWait: ackWait, UnreachableGrace: graceTime,
		Intake: r, Executor: r.executor, Results: r, Outbox: r, Gate: gate, Quarantine: worker.NewQuarantine(),
		Outlives: []string{"statement"}, Logger: zap.NewNop(),
	})
	if err != nil {
		panic(err)
	}
	r.start(gate)
	return r
}

func (r *runner) start(gate *worker.Gate) {
	var work, intake context.Context
	life, end := context.WithCancel(context.Background())
	work, r.stopWork = context.WithCancel(life)
	intake, r.stopIntake = context.WithCancel(work)
	r.running.Go(func() { _ = gate.Run(life) })
	r.running.Go(func() {
		defer end()
		_ = r.lane.Run(work, intake)
	})
}

// die ends the runner's life at this moment: what it says from now on is not heard, and what the servers were doing for it
// is left over. The world's mutex is held.
func (r *runner) die() {
	if r.died {
		return
	}
	r.died, r.open = true, false
	for _, c := range r.w.callsOf(r) {
		r.w.unpark(c)
		r.w.leave(c.rest)
		c.left = c.rest != nil
	}
	close(r.dead)
	r.stopIntake()
	r.stopWork()
}

// stop stops the runner in order, and its work immediately. The world's mutex is held.
func (r *runner) stop() {
	r.stopping = true
	r.stopIntake()
	r.stopWork()
}

// option is one way in which a call may go on. do runs under the world's mutex.
type option struct {
	name string
	do   func()
}

// call is a call that a runner awaits.
type call struct {
	runner  *runner
	what    string
	number  int
	options func() []option // the first one is what happens where nothing goes wrong; under the world's mutex
	rest    *leftover       // what may still happen after the caller stopped waiting; nil: nothing
	left    bool            // the rest was left over when the runner died
	done    chan struct{}
}

// leftover is something under way that no runner awaits: it happens at any later time.
type leftover struct {
	name    string
	options func() []option // the first one is the one that takes effect, where it can
	sure    bool            // in the end it does
}

// await lets a call wait until a step decides how it continues. An error means that its caller has stopped waiting.
func (r *runner) await(ctx context.Context, what string, rest *leftover, options func() []option) error {
	c := &call{runner: r, what: r.name + " " + what, options: options, rest: rest, done: make(chan struct{})}
	if !r.w.park(c) {
		return errDead
	}
	select {
	case <-c.done:
		return nil
	case <-r.dead:
		if c.left {
			return errLeft
		}
		return errDead
	case <-ctx.Done():
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		if r.w.unpark(c) {
			r.w.leave(rest)
		}
		return context.Cause(ctx)
	}
}

// heard takes the world's mutex for an event without a waiter, unless the runner is dead.
func (r *runner) heard() bool {
	r.w.mu.Lock()
	if r.died {
		r.w.mu.Unlock()
		return false
	}
	return true
}

// Run is the runner's intake.
func (r *runner) Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, worker.Message)) error {
	r.receive(true, 0)
	defer r.receive(false, 0)
	for {
		select {
		case n := <-credits:
			r.receive(true, n)
		case a := <-r.inbox:
			handle(a.delivery, a.message)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *runner) receive(open bool, credits int) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.open = open && !r.died
	r.free += credits
	if !open {
		r.free = 0
	}
}

// Probe asks whether the database answers.
func (r *runner) Probe(ctx context.Context) error {
	var answer error
	err := r.await(ctx, "probe", nil, func() []option {
		return []option{
			{"answers", func() { answer = nil }},
			{"does not answer", func() { answer = errNoAnswer }},
		}
	})
	return errors.Join(err, answer)
}

// Requested implements jobs.Cancellations.
func (r *runner) Requested(jobID string, stored time.Time) bool {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	asked, found := r.canceled[jobID]
	return found && stored.Before(asked)
}
