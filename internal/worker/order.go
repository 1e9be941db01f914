package worker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/delivery"
	"dbrunner/internal/order"
	"dbrunner/internal/report"
)

// How a lane looks for its turn in an ordered queue.
const (
	turnFirst   = 5 * time.Millisecond // a message that was acknowledged is removed within this time, mostly
	turnLimit   = time.Second
	lookTimeout = 3 * time.Second // of one look
)

var errNotFirst = errors.New("the message is not the first one of its ordered queue")

// turns lets the jobs of an ordered queue start and finish in their order; see package order.
type turns struct {
	lane  *Lane
	queue Order
}

// keeps reports whether the message of a settled delivery stays in the queue. No other lane keeps one.
func (t *turns) keeps(out *delivery.Outcome) bool { return t != nil && order.Stays(out.Status) }

func (h *inFlight) position() order.Position {
	return order.Position{Sequence: h.delivery.Sequence, Stored: h.delivery.Timestamp}
}

// prepare has the delivery look for its turn directly before it starts its job, or finishes it without a start. It returns begin
// with that look.
func (t *turns) prepare(ctx context.Context, h *inFlight, begin func() error) func() error {
	h.delivery.MayFinish = func(ctx context.Context) error { return t.look(ctx, h) }
	return func() error {
		if err := t.look(ctx, h); err != nil {
			return err
		}
		crash.At("turn")
		return begin()
	}
}

// look reads the queue's first message and notes whose turn it is; an error unless it is the delivery's.
func (t *turns) look(ctx context.Context, h *inFlight) error {
	turn, err := t.read(ctx, h)
	if err == nil && turn != order.Mine {
		err = errNotFirst
	}
	return err
}

func (t *turns) read(ctx context.Context, h *inFlight) (order.Turn, error) {
	h.noteTurn(0, 0)
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	first, err := t.queue.First(ctx)
	if err != nil {
		t.lane.log.Debug("first message of the queue not read", zap.Error(err))
		return 0, err
	}
	turn, ahead := order.Judge(h.position(), first), uint64(0)
	if first != nil {
		ahead = first.Sequence
	}
	h.noteTurn(turn, ahead)
	return turn, nil
}

func (h *inFlight) noteTurn(turn order.Turn, ahead uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turn, h.ahead = turn, ahead
}

// isOutOfTurn reports whether the last look has shown that another message comes first, or that this one is gone.
func (h *inFlight) isOutOfTurn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.turn == order.Earlier || h.turn == order.Gone
}

// awaitTurn waits until it is the delivery's turn, and has the message taken up that comes before it. false: the delivery is out of
// our hands.
func (t *turns) awaitTurn(ctx context.Context, h *inFlight) bool {
	h.move(waiting, running)
	var e ahead
	for pause := newBackoff(turnFirst, turnLimit); ; {
		turn, err := t.read(ctx, h)
		switch {
		case err != nil:
		case turn == order.Mine:
			return !t.lane.table.draining() || t.requeued(h, report.Drained)
		case turn == order.Gone:
			t.leave(h, waiting)
			return false
		case h.delivery.Beside: // it was not the first one after all
			t.leave(h, waiting)
			return false
		default:
			e.note(t, h)
		}
		if pause.sleep(ctx) != nil {
			t.lane.requeueUnlessResumed(ctx, h)
			return false
		}
	}
}

// requeued requeues a delivery and returns false.
func (t *turns) requeued(h *inFlight, end report.Disposition) bool {
	t.lane.requeue(h, 0, end, waiting)
	return false
}

// ahead is a message that comes before a delivery's.
type ahead struct {
	sequence uint64
	since    time.Time
}

// note has a message taken up that has been the first one for as long as its consumer waits for it: its runner, if there is one, keeps it no
// longer, or works on it under a lease that the fence makes good.
func (e *ahead) note(t *turns, h *inFlight) {
	h.mu.Lock()
	first := h.ahead
	h.mu.Unlock()
	if e.sequence != first {
		e.sequence, e.since = first, time.Now()
	}
	if time.Since(e.since) >= t.lane.opts.AckWait {
		t.queue.TakeUp(first)
	}
}

// leave leaves a message alone that is not in the queue any more, or was taken up too early: an acknowledgment could hit another one with its sequence.
func (t *turns) leave(h *inFlight, from stage) {
	if !h.move(returned, from) {
		return
	}
	t.lane.log.Warn("message not the first of the ordered queue; left alone", t.lane.about(h, "")...)
	t.lane.ended(h, report.Gone, nil)
}

// awaitResume keeps the message of a job that failed, under its lease, until an operator resumes the queue for it. ctx ends when the
// delivery is not ours any more; last a moment after all work has to end.
func (t *turns) awaitResume(ctx, last context.Context, h *inFlight, out *delivery.Outcome) {
	if !t.enter(h, out) {
		return
	}
	if t.lane.table.draining() { // it failed during the drain, which requeues only what waited at its start
		t.lane.requeue(h, 0, report.Drained, awaitingResume)
		return
	}
	t.lane.log.Error("job failed in an ordered queue, which waits for runner resume", append(t.lane.about(h, out.JobID),
		zap.String("status", string(out.Status)), zap.String("code", out.Code))...)
	crash.At("awaiting_resume")
	var e ahead
	for {
		turn, err := t.read(ctx, h)
		switch {
		case err != nil:
		case turn == order.Gone:
			t.leave(h, awaitingResume)
			return
		case turn == order.Earlier:
			e.note(t, h)
		case t.released(ctx, h) && h.move(settling, awaitingResume):
			crash.At("resumed")
			t.lane.log.Info("queue resumed by an operator", t.lane.about(h, out.JobID)...)
			t.lane.acknowledge(last, h, out)
			return
		}
		if sleep(ctx, turnLimit) != nil {
			t.lane.requeue(h, 0, report.Stopped, awaitingResume)
			return
		}
	}
}

// enter notes the failure.
func (t *turns) enter(h *inFlight, out *delivery.Outcome) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stage != settling {
		return false
	}
	h.stage = awaitingResume
	h.failed = &contract.FailedJob{
		JobID: out.JobID, Kind: h.delivery.Kind, Call: h.delivery.Name, Status: out.Status, Code: out.Code, Sequence: h.delivery.Sequence,
		QueuedAt: h.delivery.Timestamp.UTC(), Since: time.Now().UTC(),
	}
	return true
}

// released reports whether the operators' last record releases the delivery's message.
func (t *turns) released(ctx context.Context, h *inFlight) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	record, err := t.queue.Released(ctx)
	if err != nil {
		t.lane.log.Debug("record of the queue's resume not read", zap.Error(err))
	}
	return err == nil && order.Releases(record, h.position())
}

// failed returns the job that keeps the queue waiting; nil: this runner has none.
func (t *turns) failed() (out *contract.FailedJob) {
	for _, h := range t.lane.table.snapshot(nil) {
		h.mu.Lock()
		if h.stage == awaitingResume && (out == nil || h.failed.Sequence < out.Sequence) {
			out = h.failed
		}
		h.mu.Unlock()
	}
	return out
}
