package jobs

import (
	"context"
	"errors"
	"time"
)

// Cancellations knows whose end somebody has asked for in one database.
type Cancellations interface {
	// Requested reports whether the end of the job with this id was asked for after its message was stored. It is
	// called for every job, from many goroutines at once, and must not block.
	Requested(jobID string, stored time.Time) bool
}

// Canceled reports whether the end of a delivery's job was asked for. It may be called while the delivery is run.
func (e *Executor) Canceled(d *Delivery) bool {
	return e.opts.Cancellations != nil && e.opts.Cancellations.Requested(e.decoder.Scan(d).ID, d.Timestamp)
}

// errCanceled and errExpired say why a job is not to be begun, or not once more.
var (
	errCanceled = errors.New("the end of the job was asked for")
	errExpired  = errors.New("the job expired before it was begun")
)

// preempted says why the job is not to be begun any more; nil: it may begin.
func (r *run) preempted() error {
	switch {
	case r.canceled():
		return errCanceled
	case r.expired():
		return errExpired
	default:
		return nil
	}
}

func (r *run) canceled() bool {
	c := r.e.opts.Cancellations
	return c != nil && c.Requested(r.id, r.d.Timestamp)
}

func (r *run) expired() bool {
	return !r.job.ExpiresAt.IsZero() && !time.Now().Before(r.job.ExpiresAt)
}

// endPreempted ends a job that is over, by rule 3 of the ledger: what may have had an effect says so.
func (r *run) endPreempted(ctx context.Context, why error) Outcome {
	status, e := Expired, expiredError()
	if errors.Is(why, errCanceled) {
		status, e = Canceled, canceledError()
	}
	switch {
	case r.effect.Fenced():
		return r.endRecorded(ctx, status, e)
	case r.effect == AtLeastOnce && r.mayHaveTakenEffect():
		return r.end(Unknown, unknownError())
	default:
		return r.end(status, e)
	}
}

// mayHaveTakenEffect reports whether the job may have had its effect: an earlier delivery may have begun it, an execution of
// this one ended without the server's answer, or was stopped in work of which parts stay. Any other execution that came
// to no end was rolled back.
func (r *run) mayHaveTakenEffect() bool {
	return r.d.begunBefore || r.d.sawUnknown || r.d.attempts > 0 && r.leavesPartialEffects()
}

// partialWork is work that does not roll back whole: when it is stopped, what it had done by then stays.
type partialWork interface {
	// leavesPartialEffects reports whether there can be such parts.
	leavesPartialEffects() bool
}

func (r *run) leavesPartialEffects() bool {
	w, ok := r.job.work.(partialWork)
	return ok && w.leavesPartialEffects()
}

// stopped ends work that was stopped because the job's end was asked for, where it tells by its answer what stays.
// Otherwise the next run of the delivery, under a context that lives, ends it.
func (r *run) stopped(given answer) (Outcome, bool) {
	if r.effect != AtLeastOnce || given.append == nil || !r.leavesPartialEffects() || !r.canceled() {
		return Outcome{}, false
	}
	return r.endWith(Unknown, stoppedError(), given), true
}
