package worker

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
)

// The pauses before an execution that came to no decision is repeated.
const (
	againFirst = 250 * time.Millisecond
	againLimit = 5 * time.Second
)

var errNoReason = errors.New("the database does not answer")

// process brings a delivery to its end: settled, requeued, or left to expire because another runner has it. ctx ends when
// the delivery is not ours any more, its lease is lost, its job is cancelled or all work has to end; last a moment after
// the latter. goesOn: the job is cancelled, and another call with another context brings it to its end.
func (l *Lane) process(last, ctx context.Context, h *inFlight) (goesOn bool) {
	defer l.guard(h)
	pause := newBackoff(againFirst, againLimit)
	for l.admit(ctx, h) {
		out := l.execute(ctx, h)
		if out.Action == delivery.Settle {
			out = l.settle(last, h, out)
		}
		if out.Action == delivery.Settle {
			if l.order.keeps(&out) {
				out.Release()
				h.delivery.Step(report.StepNone)
				l.order.awaitResume(ctx, last, h, &out)
			}
			out.Release()
			return false
		}
		if l.order != nil && out.Action == delivery.Undecided && h.isOutOfTurn() {
			if l.order.awaitTurn(ctx, h) {
				continue
			}
			break
		}
		if out.Action == delivery.Undecided && out.Reason != nil {
			l.log.Warn("job not decided; trying again", append(l.about(h, out.JobID), zap.Error(out.Reason))...)
		}
		if out.Action == delivery.AwaitDatabase {
			out.Action = l.hold(ctx, h, &out)
		}
		if !l.shouldRetry(ctx, h, out.Action, &pause) {
			break
		}
	}
	return h.resumes(ctx)
}

// gateClosed is the action of an execution that was not tried, because the gate closed or the lane was paused meanwhile.
const gateClosed delivery.Action = 0

// execute runs the delivery; one that was delivered often waits for its turn first.
func (l *Lane) execute(ctx context.Context, h *inFlight) delivery.Outcome {
	if l.opts.Quarantine != nil && h.delivery.Deliveries >= quarantineFrom && (l.order == nil || !l.order.queue.Answered(ctx, &h.delivery)) {
		if l.opts.Quarantine.acquire(ctx) != nil {
			return delivery.Outcome{Action: delivery.Undecided}
		}
		defer l.opts.Quarantine.release()
		if held, _ := l.opts.Pause.holds(h, preemptionOf(l)); held || !l.opts.Gate.isOpen.Load() {
			return delivery.Outcome{Action: gateClosed}
		}
	}
	begin := func() error { return h.begin(l.ending.Load(), l.opts.Pause.active.Load()) }
	if l.order != nil {
		begin = l.order.prepare(ctx, h, begin)
	}
	started := time.Now()
	out := l.opts.Executor.Run(ctx, &h.delivery, begin)
	h.delivery.Step(report.StepNone)
	h.ran += time.Since(started)
	if out.Action == delivery.Undecided && h.wasHeld() {
		out.Action = gateClosed
	}
	return out
}

// hold has the gate probe a database that is said not to answer. If it does, the gate stays open: this job alone is tried
// again after a pause, and is reported so, as its own statements may be the cause.
func (l *Lane) hold(ctx context.Context, h *inFlight, out *delivery.Outcome) delivery.Action {
	if !l.opts.Gate.answers(ctx) {
		return delivery.AwaitDatabase
	}
	reason := out.Reason
	if reason == nil {
		reason = errNoReason
	}
	l.log.Warn("database unavailable to this job but answers probes", append(l.about(h, out.JobID), zap.Bool("started", out.MayBeCause), zap.Error(reason))...)
	if out.MayBeCause {
		h.delivery.Refuted++
	}
	return delivery.Undecided
}

// shouldRetry decides whether a delivery that came to no end is run again. false: it is out of our hands.
func (l *Lane) shouldRetry(ctx context.Context, h *inFlight, action delivery.Action, pause *backoff) bool {
	h.move(waiting, running, settling)
	h.delivery.MaybeRedelivered = h.delivery.MaybeRedelivered || h.hasStarted()
	if l.table.draining() {
		end := report.Drained
		if h.hasStarted() {
			end = report.Stopped
		}
		l.requeue(h, 0, end, waiting)
		return false
	}
	if h.leaseLost() || action == delivery.Undecided && pause.sleep(ctx) != nil {
		l.requeueUnlessResumed(ctx, h)
		return false
	}
	return true
}

// admit waits until the gate is open and no pause holds the delivery. false: the delivery is out of our hands.
func (l *Lane) admit(ctx context.Context, h *inFlight) bool {
	for {
		for !l.opts.Gate.isOpen.Load() {
			v := l.opts.Gate.viewNow()
			if v.open() {
				continue
			}
			select {
			case <-v.changed:
			case <-ctx.Done():
				l.requeueUnlessResumed(ctx, h)
				return false
			}
		}
		if !l.opts.Pause.active.Load() || l.opts.Pause.awaitResume(ctx, h, preemptionOf(l)) != nil || l.opts.Gate.isOpen.Load() {
			break
		}
	}
	if ctx.Err() != nil {
		l.requeueUnlessResumed(ctx, h)
		return false
	}
	return true
}

// preemptionOf returns what finishes deliveries of the lane that are not started, while a pause holds them: nothing in an ordered queue.
func preemptionOf(l *Lane) preemption {
	if l.order != nil {
		return func(*delivery.Delivery) (bool, time.Time) { return false, time.Time{} }
	}
	return l.opts.Executor.Preemption
}

// guard keeps a panic from killing the runner: the delivery is requeued. Neither the panic's text nor arguments
// are logged, as they may hold a job's values.
func (l *Lane) guard(h *inFlight) {
	p := recover()
	if p == nil {
		return
	}
	l.counters.panics.Add(1)
	text := ""
	if err, ok := p.(runtime.Error); ok {
		text = err.Error()
	}
	l.log.Error("panic in a job; requeuing it",
		append(l.about(h, ""), zap.String("panic", text), zap.Strings("stack", frames()))...)
	l.requeue(h, between(minRequeueDelay, maxRequeueDelay), report.Panicked, waiting, running, settling, awaitingResume)
}

// frames names the functions on the stack of a panic, innermost first, without their arguments.
func frames() []string {
	const most, skip = 24, 3
	pc := make([]uintptr, most)
	stack := runtime.CallersFrames(pc[:runtime.Callers(skip, pc)])
	var names []string
	for {
		frame, more := stack.Next()
		if frame.Function != "" {
			names = append(names, frame.Function+":"+strconv.Itoa(frame.Line))
		}
		if !more {
			return names
		}
	}
}
