package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/report"
)

// The parts of AckWait: a lease is extended after a third of it, an extension that is not confirmed within a sixth
// is tried again after a twelfth, so that there are three trials before the lease is lost.
const (
	extendPart  = 3
	confirmPart = 6
	retryPart   = 12
)

// extension is the time from one confirmed extension to the next.
func extension(ackWait time.Duration) time.Duration { return jitter(ackWait / extendPart) }

// keepFrom is the delivery from which on a job that this delivery did not begin is held when its database does not
// answer, instead of being requeued: an outage must not burn its deliveries.
const keepFrom = 10

// keepLeases extends the leases of everything held until stop ends, stops work whose lease is lost, and requeues
// what waits for a database beyond the grace, except in a paused lane: no runner would take it up. One goroutine
// looks at all of it a few times within AckWait/3, so that a short job costs nothing.
func (l *Lane) keepLeases(stop context.Context) {
	ticker := time.NewTicker(l.opts.AckWait / retryPart)
	defer ticker.Stop()
	var all []*inFlight
	for {
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
			now := l.opts.Now() // a tick may have waited while the process was stopped
			all = l.table.snapshot(all[:0])
			v := l.opts.Gate.viewNow()
			graceOver := v.unreachable != nil && !l.opts.Pause.active.Load() && !time.Now().Before(v.since.Add(l.opts.UnreachableGrace))
			for _, h := range all {
				if graceOver && (h.delivery.Deliveries < keepFrom || h.hasStarted()) {
					l.requeue(h, between(minRequeueDelay, maxRequeueDelay), report.Unreachable, waiting)
				}
				l.keepLease(stop, h, now)
			}
			clear(all)
		}
	}
}

// keepLease does for one delivery what is due. A lost lease stops work that rolls back whole or was not started. What has
// finished is settled all the same: the first writer wins.
func (l *Lane) keepLease(ctx context.Context, h *inFlight, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stage == returned || h.lost:
	case h.expired(now):
		h.lost = true
		l.counters.leasesLost.Add(1)
		l.log.Warn("lease lost",
			append(l.about(h, ""), zap.Bool("started", h.attempts > 0), zap.Duration("ack_wait", l.opts.AckWait))...)
		if h.stage != settling && (h.stage != running || !h.survivesLeaseLoss) && h.cancel != nil {
			h.cancel(ErrLeaseLost)
		}
	case !h.extending && !now.Before(h.extendAt):
		h.extending = true
		deadline := h.deadline
		l.extensions.Go(func() { l.extend(ctx, h, deadline) })
	}
}

// extend asks for another AckWait. The new deadline counts from the request, not from its answer.
func (l *Lane) extend(ctx context.Context, h *inFlight, deadline time.Time) {
	asked := l.opts.Now()
	ctx, cancel := context.WithTimeout(ctx, min(l.opts.AckWait/confirmPart, deadline.Sub(asked)))
	defer cancel()
	err := h.message.InProgress(ctx)
	now := l.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.extending = false
	switch {
	case err != nil:
		h.extendAt = now // at the next look
	case !h.lost:
		h.deadline = asked.Add(l.opts.AckWait)
		h.extendAt = asked.Add(extension(l.opts.AckWait))
	}
}
