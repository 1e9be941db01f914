package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
)

// errPaused: an execution was not started because its lane is paused.
var errPaused = errors.New("the lane is paused")

// Pause is whether an operator has paused a lane: a gate of that lane alone, besides the one of its database. A paused lane
// pulls nothing and starts nothing. What it has not started stays in flight, under its leases, because a requeue would count
// as a delivery; what it has started goes on. The zero value is not paused. It is safe for concurrent use.
type Pause struct {
	active atomic.Bool // for the hot path

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

// Set pauses the lane or resumes it. When it returns, nothing more starts in a paused lane.
func (p *Pause) Set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active.Swap(paused) != paused && p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// view returns whether the lane is paused, and a channel that is closed when that changes.
func (p *Pause) view() (paused bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.active.Load(), p.changed
}

// awaitOpen returns nil once the gate is open and the lane is not paused, or the context's cause.
func (p *Pause) awaitOpen(ctx context.Context, gate *Gate) error {
	for {
		if err := gate.awaitOpen(ctx); err != nil {
			return err
		}
		paused, changed := p.view()
		if !paused {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errGateClosed ends an intake session because the gate has closed.
var errGateClosed = errors.New("the gate has closed")

// awaitClosed returns why an intake session has to end: the gate has closed, or the lane is paused; nil: ctx has ended.
func (p *Pause) awaitClosed(ctx context.Context, gate *Gate) error {
	for {
		v := gate.viewNow()
		paused, changed := p.view()
		switch {
		case ctx.Err() != nil:
			return nil
		case !v.open():
			return errGateClosed
		case paused:
			return report.ErrPaused
		}
		select {
		case <-changed:
		case <-v.changed:
		case <-ctx.Done():
		}
	}
}

// preemption reports what finishes a delivery that is not started; see Executor.
type preemption func(d *delivery.Delivery) (canceled bool, expires time.Time)

// holds reports whether a pause keeps a delivery from being run: it was not started, and there is nothing that finishes it
// without a start. until is when that may change by itself; zero: never.
func (p *Pause) holds(h *inFlight, preempted preemption) (held bool, until time.Time) {
	if !p.active.Load() || h.hasStarted() {
		return false, time.Time{}
	}
	canceled, expires := preempted(&h.delivery)
	if canceled || !expires.IsZero() && !time.Now().Before(expires) {
		return false, time.Time{}
	}
	return true, expires
}

// awaitResume waits while a pause holds the delivery. An error: ctx has ended.
func (p *Pause) awaitResume(ctx context.Context, h *inFlight, preempted preemption) error {
	for {
		_, changed := p.view() // before the question: no change is missed
		held, until := p.holds(h, preempted)
		if !held {
			return nil
		}
		var expired <-chan time.Time
		if !until.IsZero() {
			timer := time.NewTimer(time.Until(until))
			defer timer.Stop() // one for each change of the pause at most
			expired = timer.C
		}
		select {
		case <-changed:
		case <-expired:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
