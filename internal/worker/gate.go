package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/report"
)

// The pauses between two probes of a database that does not answer, and how long one probe may take.
const (
	probeFirst   = 250 * time.Millisecond
	probeLimit   = 5 * time.Second
	probeTimeout = 10 * time.Second
)

var errNotProbed = errors.New("not reached yet")

// GateOptions is what a gate is made with.
type GateOptions struct {
	Database string
	Prober   Prober // nil: the gate is open from the start and opens by itself after a pause
	Logger   *zap.Logger
}

// Gate stands before the lanes of one database. While it is closed they pull nothing and start nothing, and keep
// what they hold. It is closed as long as the database does not answer, from the start until the first probe
// succeeds, and as long as a job waits for room in the results stream.
//
// Only a probe closes it for an unreachable database, never the word of one job, whose own statements may be the cause.
type Gate struct {
	opts   GateOptions
	isOpen atomic.Bool // what the fields below come to, for the hot path
	probed chan struct{}
	ended  chan struct{} // closed when no probe runs any more

	mu          sync.Mutex
	unreachable error // nil: reachable
	since       time.Time
	asked       *inquiry // the next probe's; nil: no job waits for one
	noRoom      int      // jobs that wait for room
	noRoomSince time.Time
	changed     chan struct{} // closed at the next change
}

// NewGate returns a gate. Run has to run for it to open.
func NewGate(opts GateOptions) (*Gate, error) {
	if opts.Logger == nil {
		return nil, errors.New("worker: a gate requires a logger")
	}
	g := &Gate{opts: opts, probed: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{})}
	g.opts.Logger = opts.Logger.With(zap.String("database", opts.Database))
	if opts.Prober != nil {
		g.unreachable, g.since = errNotProbed, time.Now()
	}
	g.isOpen.Store(g.unreachable == nil)
	return g, nil
}

// State describes the gate.
func (g *Gate) State() report.Gate {
	v := g.viewNow()
	s := report.Gate{Open: v.open(), Since: v.since, ResultsFull: v.noRoom, FullSince: v.noRoomSince}
	if v.unreachable != nil {
		s.Unreachable = v.unreachable.Error()
	}
	return s
}

// Probed is closed once the first probe has ended, whichever way: before it nothing is known of the database.
func (g *Gate) Probed() <-chan struct{} { return g.probed }

// Run probes the database while it does not answer, and when a job says so, until ctx ends. It runs once and returns nil.
func (g *Gate) Run(ctx context.Context) error {
	defer close(g.ended)
	pause := newBackoff(probeFirst, probeLimit)
	reached := g.opts.Prober == nil || g.probe(ctx) // the first probe is not waited for
	close(g.probed)
	if !reached {
		g.probeUntilReached(ctx, &pause)
	}
	for ctx.Err() == nil {
		reached := time.Now()
		if g.await(ctx, func(v *view) bool { return v.unreachable != nil || v.asked }) != nil {
			break
		}
		if g.answer(ctx) {
			continue
		}
		if time.Since(reached) > probeLimit {
			pause.reset() // a database that flaps is not probed faster each time
		}
		g.probeUntilReached(ctx, &pause)
	}
	return nil
}

// inquiry is the question of jobs whether the database answers.
type inquiry struct {
	done    chan struct{} // closed when that is known
	answers bool
}

// answers reports whether a probe that starts now finds the database well: an execution has ended as if it were not.
// The gate is closed if it does not. Jobs that ask before a probe starts share it. It returns false when ctx or the gate
// has ended.
func (g *Gate) answers(ctx context.Context) bool {
	if g.opts.Prober == nil {
		return true
	}
	g.mu.Lock()
	if g.unreachable != nil {
		g.mu.Unlock()
		return false
	}
	if g.asked == nil {
		g.asked = &inquiry{done: make(chan struct{})}
		g.change()
	}
	q := g.asked
	g.mu.Unlock()
	select {
	case <-q.done:
		return q.answers
	case <-ctx.Done():
	case <-g.ended:
	}
	return false
}

// answer probes for the jobs that have asked, if there are any, and reports whether the database answers.
func (g *Gate) answer(ctx context.Context) bool {
	g.mu.Lock()
	q := g.asked
	g.asked = nil
	g.mu.Unlock()
	if q == nil {
		return false
	}
	defer close(q.done)
	err := g.ask(ctx)
	if err != nil && ctx.Err() == nil {
		g.hold(err)
	}
	q.answers = err == nil
	return q.answers
}

func (g *Gate) probeUntilReached(ctx context.Context, pause *backoff) {
	for pause.sleep(ctx) == nil && !g.probe(ctx) {
	}
}

// probe tries the database once and opens the gate if it answers.
func (g *Gate) probe(ctx context.Context) bool {
	if err := g.ask(ctx); err != nil {
		g.hold(err)
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unreachable != nil {
		g.opts.Logger.Info("database reachable; its jobs run", zap.Duration("after", time.Since(g.since)))
		g.unreachable = nil
		g.change()
	}
	return true
}

func (g *Gate) ask(ctx context.Context) error {
	if g.opts.Prober == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return g.opts.Prober.Probe(ctx)
}

// hold closes the gate because the database does not answer.
func (g *Gate) hold(reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.unreachable
	g.unreachable = reason
	if was == nil {
		g.since = time.Now()
		g.change()
	}
	if was == nil || was.Error() != reason.Error() {
		g.opts.Logger.Warn("database unreachable; its jobs wait", zap.Error(reason))
	}
}

// enterFull counts one more job that waits for room in the results stream.
func (g *Gate) enterFull() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noRoom++
	if g.noRoom == 1 {
		g.noRoomSince = time.Now()
		g.opts.Logger.Error("results stream full; intake stopped",
			zap.String("remedy", "raise results.max_count or results.max_bytes, or lower results.min_age"))
		g.change()
	}
}

// leaveFull counts one job less that waits for room.
func (g *Gate) leaveFull() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noRoom--
	if g.noRoom == 0 {
		g.opts.Logger.Warn("results stream has space again", zap.Duration("after", time.Since(g.noRoomSince)))
		g.change()
	}
}

// change wakes all that wait. The mutex is held.
func (g *Gate) change() {
	g.isOpen.Store(g.unreachable == nil && g.noRoom == 0)
	close(g.changed)
	g.changed = make(chan struct{})
}

// view is a gate at one moment, with a channel that is closed at its next change.
type view struct {
	unreachable error
	since       time.Time
	asked       bool
	noRoom      bool
	noRoomSince time.Time
	changed     <-chan struct{}
}

func (v *view) open() bool { return v.unreachable == nil && !v.noRoom }

func (g *Gate) viewNow() view {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := view{unreachable: g.unreachable, asked: g.asked != nil, noRoom: g.noRoom > 0, changed: g.changed}
	if v.unreachable != nil {
		v.since = g.since
	}
	if v.noRoom {
		v.noRoomSince = g.noRoomSince
	}
	return v
}

// awaitOpen returns nil once the gate is open, or the context's cause.
func (g *Gate) awaitOpen(ctx context.Context) error {
	return g.await(ctx, func(v *view) bool { return v.open() })
}

// await returns nil once the gate is as wanted. A context that has ended wins.
func (g *Gate) await(ctx context.Context, wanted func(*view) bool) error {
	for {
		v := g.viewNow()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wanted(&v) {
			return nil
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
