package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/order"
)

// Why work on a delivery ends early; the causes of its context.
var (
	// ErrLeaseLost: the server has had no sign of life for AckWait, so the message may be with another runner.
	ErrLeaseLost = errors.New("lease of the message lost")
	// ErrRequeued: message requeued before its work started.
	ErrRequeued = errors.New("message requeued")
	// ErrCanceled: the job was cancelled. Its delivery is run once more, to end it.
	ErrCanceled = errors.New("the job was cancelled")
)

// stage is how far a held delivery has come.
type stage uint8

const (
	waiting        stage = iota + 1 // no execution under way: queued, at the gate, without a connection
	running                         // an execution was started and has not returned
	settling                        // ended: being stored and answered
	acknowledging                   // all is durable
	awaitingResume                  // failed in an ordered queue: all is durable, and its message stays until an operator resumes the queue
	returned                        // requeued or left to expire; its work stops
)

// inFlight is one delivery between its arrival and its verb.
type inFlight struct {
	delivery delivery.Delivery
	message  Message
	arrived  time.Time
	ran      time.Duration // in the executor; belongs to the goroutine that works on it

	now func() time.Time // the clock of leases

	index             int  // in table.all; guarded by the table
	slotted           bool // occupies a slot, else a settling place; guarded by the table
	survivesLeaseLoss bool // a lost lease does not stop work that was started

	mu        sync.Mutex
	stage     stage
	attempts  uint32              // executions started by this delivery
	startedAt time.Time           // the last of them, by the clock of leases
	jobID     string              // once InFlight has read it; empty: not yet
	lost      bool                // the loss of the lease was noted; it is for good
	canceled  bool                // the work was stopped because the job's end was asked for; once
	extending bool                // an extension is under way
	turn      order.Turn          // as it was read last, in an ordered queue; 0: not yet
	ahead     uint64              // the sequence of the queue's first message then
	failed    *contract.FailedJob // while it awaits the resume
	held      bool                // a pause kept the execution under way, or the last one, from being started
	deadline  time.Time           // of the lease, as extendAt by the clock of leases
	extendAt  time.Time
	cancel    context.CancelCauseFunc // stops the work; nil while no goroutine works on it
}

// attach gives the delivery to a goroutine that cancel stops. false: it has been returned.
func (h *inFlight) attach(cancel context.CancelCauseFunc) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stage == returned || h.lost { // begin looks at the clock
		return false
	}
	h.cancel = cancel
	return true
}

// detach ends the goroutine's part: cancel is not called any more afterwards.
func (h *inFlight) detach() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancel = nil
}

// begin notes the begin of an execution unless the delivery is not ours any more. After the end of the intake, and while
// the lane is paused, only what was started before goes on.
func (h *inFlight) begin(ending, paused bool) error {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = paused && h.attempts == 0
	switch {
	case h.stage == returned || ending && h.attempts == 0:
		return ErrRequeued
	case h.expired(now) && (h.attempts == 0 || !h.survivesLeaseLoss):
		return ErrLeaseLost
	case h.held:
		return errPaused
	}
	h.stage = running
	h.attempts++
	h.startedAt = now
	return nil
}

// move takes the delivery from one of the stages to another. false: it is in none of them, another process was first.
// Every verb is preceded by a move that only one can win.
func (h *inFlight) move(to stage, from ...stage) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range from {
		if h.stage == s {
			h.stage = to
			return true
		}
	}
	return false
}

// in reports whether the delivery is in a stage now.
func (h *inFlight) in(s stage) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stage == s
}

// stop ends the work on the delivery, if a goroutine is at it.
func (h *inFlight) stop(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cancel != nil {
		h.cancel(cause)
	}
}

// interrupt stops the work because the job's end was asked for. It does so once: what ends the job is not stopped.
func (h *inFlight) interrupt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.canceled {
		return
	}
	h.canceled = true
	if h.cancel != nil && (h.stage == waiting || h.stage == running) {
		h.cancel(ErrCanceled)
	}
}

// resumes reports whether the delivery goes on under another context, because this one ended for the job's end.
func (h *inFlight) resumes(ctx context.Context) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stage != returned && ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrCanceled)
}

// hasStarted reports whether this delivery ever started an execution.
func (h *inFlight) hasStarted() bool { return h.attemptCount() > 0 }

// attemptCount is how many executions this delivery started.
func (h *inFlight) attemptCount() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(h.attempts)
}

// wasHeld reports, once, whether a pause kept the last execution from being started.
func (h *inFlight) wasHeld() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.held
	h.held = false
	return held
}

// leaseLost reports whether the lease is lost by now.
func (h *inFlight) leaseLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expired(h.now())
}

// expired reports whether the lease is lost at this moment, noted or not. The mutex is held.
func (h *inFlight) expired(now time.Time) bool { return h.lost || !now.Before(h.deadline) }

// trace follows the delivery; nil: no trace.
func (h *inFlight) trace() Trace {
	if h.delivery.Trace == nil {
		return nil
	}
	return h.delivery.Trace.(Trace) // from the lane's Tracer
}
