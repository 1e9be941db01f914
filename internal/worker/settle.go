package worker

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
)

// The pauses before a result that could not be stored is stored again.
const (
	storeFirst = 50 * time.Millisecond
	storeLimit = 5 * time.Second
)

// A dead letter that its stream refuses must not keep its job indefinitely: the stored result has the answer. While the stream does not
// answer, or is not there, the job waits.
const (
	deadLetterAttempts = 5
	deadLetterFirst    = 100 * time.Millisecond
	deadLetterLimit    = 2 * time.Second
)

// How often, and how long each time, a confirmed acknowledgement is tried.
const (
	ackAttempts = 3
	ackTimeout  = 3 * time.Second
)

// The delay with which a message is requeued that another runner may have more luck with.
const (
	minRequeueDelay = time.Second
	maxRequeueDelay = 5 * time.Second
)

// settle does what the outcome says, each step durable before the next: stored result, reply, dead letter,
// acknowledgement. It returns the outcome that it ended with; one that is not to be settled after all leaves the
// delivery to be run again.
func (l *Lane) settle(ctx context.Context, h *inFlight, out delivery.Outcome) delivery.Outcome {
	if !h.move(settling, waiting, running) {
		return out // requeued before it started: the next delivery has the same outcome
	}
	l.table.settle(h)
	h.delivery.Step(report.StepPublish)
	if t := h.trace(); t != nil {
		ctx = t.Context(ctx)
	}
	crash.At("before_store")
	out, err := l.store(ctx, h, out)
	if out.Action != delivery.Settle {
		return out
	}
	if err != nil {
		l.requeue(h, 0, report.Stopped, settling)
		return out
	}
	crash.At("after_store")
	l.reply(h, &out)
	crash.At("after_reply")
	if l.storeDeadLetter(ctx, h, &out) != nil {
		l.requeue(h, 0, report.Stopped, settling)
		return out
	}
	crash.At("after_letter")
	if l.order.keeps(&out) {
		return out // its message stays in the queue
	}
	l.acknowledge(ctx, h, &out)
	crash.At("after_ack")
	return out
}

// store stores the outcome's result as long as ctx lives, and returns the outcome to go on with: a taken subject may
// change it. While there is no room the gate of the database is closed.
func (l *Lane) store(ctx context.Context, h *inFlight, out delivery.Outcome) (delivery.Outcome, error) {
	full, complained := false, false
	defer func() {
		if full {
			l.opts.Gate.leaveFull()
		}
	}()
	pause := newBackoff(storeFirst, storeLimit)
	for out.Store != nil {
		verdict, err := l.opts.Results.Store(ctx, out.Store.Key, out.Store.Body)
		if err == nil && verdict == report.Taken {
			key := out.Store.Key
			out, err = l.taken(ctx, h, out)
			if err == nil && (out.Action != delivery.Settle || out.Store == nil || out.Store.Key != key) {
				continue
			}
		}
		switch {
		case err != nil && !complained:
			complained = true
			l.log.Warn("result not stored; retrying", append(l.about(h, out.JobID), zap.Error(err))...)
		case err == nil && verdict == report.Stored:
			return out, nil
		case err == nil && verdict == report.Full && !full:
			full = true
			l.opts.Gate.enterFull()
		}
		if err := pause.sleep(ctx); err != nil {
			return out, err
		}
	}
	return out, nil
}

// taken asks how to go on when the result's subject is taken. A result that is our own, of a trial whose answer was
// lost, is stored.
func (l *Lane) taken(ctx context.Context, h *inFlight, out delivery.Outcome) (delivery.Outcome, error) {
	existing, err := l.opts.Results.StoredResult(ctx, out.Store.Key)
	switch {
	case err != nil:
		return out, err
	case existing == nil:
		return out, nil // it has just expired: the same key is tried again
	case bytes.Equal(existing, out.Store.Body):
		out.Store = nil
		return out, nil
	}
	l.counters.taken.Add(1)
	return l.opts.Executor.Taken(ctx, &h.delivery, out, existing), nil
}

// reply sends the convenience answer, best effort.
func (l *Lane) reply(h *inFlight, out *delivery.Outcome) {
	if out.Reply == nil {
		return
	}
	if err := l.opts.Outbox.Reply(out.Reply.Key, out.Reply.Body); err != nil {
		l.counters.repliesLost.Add(1)
		l.log.Warn("reply not sent", append(l.about(h, out.JobID), zap.Error(err))...)
	}
}

// storeDeadLetter stores the dead letter, or gives it up after some refusals. An error means that ctx ended before.
func (l *Lane) storeDeadLetter(ctx context.Context, h *inFlight, out *delivery.Outcome) error {
	if out.DeadLetter == nil {
		return nil
	}
	pause := newBackoff(deadLetterFirst, deadLetterLimit)
	for attempt := 1; ; attempt++ {
		err := l.opts.Outbox.PublishDeadLetter(ctx, &h.delivery, out.DeadLetter)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if attempt == deadLetterAttempts {
			l.counters.deadLettersLost.Add(1)
			l.log.Error("dead letter not stored; the stored result has the answer", append(l.about(h, out.JobID),
				zap.String("reason", out.DeadLetter.Reason), zap.String("result_id", out.DeadLetter.ResultID), zap.Error(err))...)
			out.DeadLetter = nil
			return nil
		}
		if err := pause.sleep(ctx); err != nil {
			return err
		}
	}
}

// acknowledge takes the message out of the stream. All that hangs on it is durable, so that a lost acknowledgement
// costs a redelivery and no more: those of successes are not waited for.
func (l *Lane) acknowledge(ctx context.Context, h *inFlight, out *delivery.Outcome) {
	if !h.move(acknowledging, settling) {
		return
	}
	var err error
	if out.Status == contract.Succeeded && l.order == nil {
		err = h.message.Ack()
	} else {
		for range ackAttempts {
			if ctx.Err() != nil {
				err = h.message.Ack()
				break
			}
			bounded, cancel := context.WithTimeout(ctx, ackTimeout)
			err = h.message.AckConfirmed(bounded)
			cancel()
			if err == nil {
				break
			}
		}
	}
	if err != nil {
		l.log.Warn("ack not confirmed; a redelivery returns the stored result",
			append(l.about(h, out.JobID), zap.Error(err))...)
	}
	l.settled(h, out)
}

// requeueUnlessResumed ends the part of a delivery whose context ended: it is requeued unless another runner may have it, or it
// goes on under another context.
func (l *Lane) requeueUnlessResumed(ctx context.Context, h *inFlight) {
	if !h.resumes(ctx) {
		l.requeue(h, 0, report.Stopped, waiting, running)
	}
}

// requeue returns the message for another delivery, if it is in one of the stages. After a lost lease the message
// is left alone: another runner may be at work on it, whose lease a late verb of ours would end.
func (l *Lane) requeue(h *inFlight, delay time.Duration, end report.Disposition, from ...stage) {
	if !h.move(returned, from...) {
		return
	}
	h.stop(ErrRequeued)
	if h.leaseLost() {
		l.ended(h, report.LeaseLost, nil)
		return
	}
	if err := h.message.Nak(delay); err != nil {
		l.log.Warn("NAK failed; redelivery after ack_wait", append(l.about(h, ""), zap.Error(err))...)
	}
	l.ended(h, end, nil)
}
