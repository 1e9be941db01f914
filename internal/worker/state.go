package worker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
)

// Disposition is how a delivery left the runner.
type Disposition uint8

// The ends.
const (
	DispositionSettled Disposition = iota + 1 // its job has ended
	EndDrained                                // requeued: the runner stops, and it was not started
	EndStopped                                // requeued: the runner stops, and it was cancelled
	EndUnreachable                            // requeued: its database does not answer
	EndPanic                                  // requeued: a defect of the runner's own
	EndNoSlot                                 // requeued: it came without a slot for it
	EndLeaseLost                              // left alone: another runner may have it
)

var endNames = [...]string{
	DispositionSettled: "settled", EndDrained: "drained", EndStopped: "stopped", EndUnreachable: "unreachable",
	EndPanic: "panic", EndNoSlot: "no_slot", EndLeaseLost: "lease_lost",
}

// String returns a stable word for logs and metrics.
func (e Disposition) String() string { return endNames[e] }

// Event is the end of one delivery.
type Event struct {
	Database, Lane, Kind string

	Disposition Disposition
	JobID       string          // of a settled job
	Status      contract.Status // of a settled job
	Code        string          // error.code of a settled job
	Duplicate   bool            // an earlier end was the answer
	Recorded    bool            // the answer was in the ledger before
	Letter      string          // the reason of the dead letter that was stored; empty: none was
	Ran         time.Duration   // in the executor; of a settled job
	Deliveries  uint64
	Attempts    uint64        // executions started by this delivery
	Queued      time.Duration // from the stream's timestamp to the arrival here
	SlotsInUse  time.Duration // from the arrival here to the verb
}

// State is a lane at one moment, and what it has done since it started.
type State struct {
	Database, Lane string

	Slots      int // at most
	SlotsInUse int // slots taken
	Settling   int // ended deliveries besides, whose results are being published

	Settled     map[contract.Status]int64
	Ended       map[string]int64 // deliveries by how they left
	Duplicates  int64            // settled with the answer of an earlier end
	Taken       int64            // results that met one stored already
	LeasesLost  int64            // among them those of jobs that were settled all the same
	RepliesLost int64
	LettersLost int64
	Panics      int64

	IntakeError string // why the intake ended by itself; empty: it runs
	Gate        GateState
}

var statuses = [...]contract.Status{
	contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown,
}

var errIntakeReturned = errors.New("intake returned although nobody stopped it")

// counters count since the start.
type counters struct {
	status [len(statuses)]atomic.Int64
	end    [len(endNames)]atomic.Int64

	duplicates, taken, leasesLost, repliesLost, lettersLost, panics atomic.Int64

	mu     sync.Mutex
	intake string
}

func (c *counters) intakeRuns() { c.noteIntake("") }

func (c *counters) intakeFailed(err error) {
	if err == nil {
		err = errIntakeReturned
	}
	c.noteIntake(err.Error())
}

func (c *counters) noteIntake(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intake = what
}

func (c *counters) intakeError() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.intake
}

// State describes the lane.
func (l *Lane) State() State {
	c := &l.counters
	s := State{
		Database: l.opts.Database, Lane: l.opts.Name, Slots: l.opts.Slots,
		Settled: make(map[contract.Status]int64, len(statuses)), Ended: make(map[string]int64, len(endNames)),
		Duplicates: c.duplicates.Load(), Taken: c.taken.Load(), LeasesLost: c.leasesLost.Load(),
		RepliesLost: c.repliesLost.Load(), LettersLost: c.lettersLost.Load(), Panics: c.panics.Load(),
		IntakeError: c.intakeError(), Gate: l.opts.Gate.State(),
	}
	s.SlotsInUse, s.Settling = l.table.counts()
	for i, status := range statuses {
		s.Settled[status] = c.status[i].Load()
	}
	for end := DispositionSettled; int(end) < len(endNames); end++ {
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
			zap.Uint64("deliveries", h.delivery.Deliveries), zap.Uint64("attempts", h.begunTimes()),
			zap.Duration("ran", h.ran), zap.Duration("held", time.Since(h.arrived)), zap.Error(out.Reason))...)
	}
	l.ended(h, DispositionSettled, out)
}

// about are the fields by which the log lines of one job are found; the logger has those of its lane. jobID is empty
// where it is not known.
func (l *Lane) about(h *inFlight, jobID string) []zap.Field {
	fields := make([]zap.Field, 0, 12)
	fields = append(fields, zap.String("kind", h.delivery.Kind), zap.Uint64("sequence", h.delivery.Sequence))
	if jobID != "" {
		fields = append(fields, zap.String("job_id", jobID))
	}
	if id := h.traceID(); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	return fields
}

// ended notes how a delivery left. out is nil unless it was settled.
func (l *Lane) ended(h *inFlight, end Disposition, out *delivery.Outcome) {
	l.counters.end[end].Add(1)
	d, trace := &h.delivery, h.trace()
	if l.opts.Observer == nil && trace == nil {
		return
	}
	e := Event{
		Database: l.opts.Database, Lane: l.opts.Name, Kind: d.Kind, Disposition: end, Deliveries: d.Deliveries,
		Attempts: h.begunTimes(), Queued: h.arrived.Sub(d.Timestamp), SlotsInUse: time.Since(h.arrived),
	}
	if out != nil {
		e.JobID, e.Status, e.Code, e.Ran = out.JobID, out.Status, out.Code, h.ran
		e.Duplicate, e.Recorded = out.Duplicate, out.Recorded
		if out.DeadLetter != nil {
			e.Letter = out.DeadLetter.Reason
		}
	}
	if l.opts.Observer != nil {
		l.opts.Observer.Finished(e)
	}
	if trace != nil {
		trace.End(e)
	}
}
