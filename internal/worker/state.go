package worker

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
)

var statuses = [...]contract.Status{
	contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown,
}

// counters count since the start.
type counters struct {
	status [len(statuses)]atomic.Int64
	end    [report.Dispositions]atomic.Int64

	duplicates, taken, leasesLost, repliesLost, deadLettersLost, panics atomic.Int64

	intakeError atomic.Value // a string: why the intake ended by itself; empty: it runs
}

// State returns the lane's state.
func (l *Lane) State() report.Lane {
	c := &l.counters
	s := report.Lane{
		Name: l.opts.Name, Queue: l.opts.Queue, Slots: l.opts.Slots,
		Settled: make(map[contract.Status]int64, len(statuses)), Ended: make(map[string]int64, report.Dispositions),
		Duplicates: c.duplicates.Load(), Taken: c.taken.Load(), LeasesLost: c.leasesLost.Load(),
		RepliesLost: c.repliesLost.Load(), DeadLettersLost: c.deadLettersLost.Load(), Panics: c.panics.Load(),
	}
	s.IntakeError, _ = c.intakeError.Load().(string)
	s.SlotsInUse, s.Settling = l.table.counts()
	if s.Paused = l.opts.Pause.active.Load(); s.Paused {
		s.Started = l.table.started()
	}
	if l.order != nil {
		s.Failed = l.order.failed()
	}
	for i, status := range statuses {
		s.Settled[status] = c.status[i].Load()
	}
	for end := report.Settled; int(end) < report.Dispositions; end++ {
		s.Ended[end.String()] = c.end[end].Load()
	}
	return s
}

// settled notes a settled delivery.
func (l *Lane) settled(h *inFlight, out *delivery.Outcome) {
	for i, status := range statuses {
		if status == out.Status {
			l.counters.status[i].Add(1)
		}
	}
	if out.Duplicate {
		l.counters.duplicates.Add(1)
	}
	level := zap.InfoLevel
	switch {
	case out.Reason != nil:
		level = zap.ErrorLevel
	case out.Status == contract.Succeeded:
		level = zap.DebugLevel
	}
	if entry := l.log.Check(level, "job ended"); entry != nil {
		entry.Write(append(l.about(h, out.JobID),
			zap.String("status", string(out.Status)), zap.String("code", out.Code), zap.Bool("duplicate", out.Duplicate),
			zap.Uint64("deliveries", h.delivery.Deliveries), zap.Uint64("attempts", h.attemptCount()),
			zap.Duration("ran", h.ran), zap.Duration("held", time.Since(h.arrived)), zap.Error(out.Reason))...)
	}
	l.ended(h, report.Settled, out)
}

// about are the fields by which the log lines of one job are found; the logger has those of its lane. jobID is empty
// where it is not known.
func (l *Lane) about(h *inFlight, jobID string) []zap.Field {
	fields := make([]zap.Field, 0, 12)
	fields = append(fields, zap.String("kind", h.delivery.Kind), zap.Uint64("sequence", h.delivery.Sequence))
	if jobID != "" {
		fields = append(fields, zap.String("job_id", jobID))
	}
	traceID := h.delivery.TraceID() // the publisher's, even if this runner does not trace
	if t := h.trace(); t != nil {
		traceID = t.ID()
	}
	if traceID != "" {
		fields = append(fields, zap.String("trace_id", traceID))
	}
	return fields
}

// ended notes how a delivery left. out is nil unless it was settled.
func (l *Lane) ended(h *inFlight, end report.Disposition, out *delivery.Outcome) {
	l.counters.end[end].Add(1)
	d, trace := &h.delivery, h.trace()
	if l.opts.Observer == nil && trace == nil {
		return
	}
	e := report.Event{
		Database: l.opts.Database, Lane: l.opts.Name, Kind: d.Kind, Call: d.Name, Disposition: end, Deliveries: d.Deliveries,
		Attempts: h.attemptCount(), Queued: h.arrived.Sub(d.Timestamp), SlotsInUse: time.Since(h.arrived),
	}
	if out != nil {
		e.JobID, e.Status, e.Code, e.Ran = out.JobID, out.Status, out.Code, h.ran
		e.Duplicate, e.Recorded = out.Duplicate, out.Recorded
		if out.DeadLetter != nil {
			e.DeadLetter = out.DeadLetter.Reason
		}
	}
	if l.opts.Observer != nil {
		l.opts.Observer.Finished(e)
	}
	if trace != nil {
		trace.End(e)
	}
}
