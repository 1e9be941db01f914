package delivery

import (
	"errors"
	"time"

	"dbrunner/contract"

	"dbrunner/internal/jobs"
)

// Cancellations knows whose end somebody has asked for in one database.
type Cancellations interface {
	// Requested reports whether the end of the job with this id was asked for after its message was stored. It is
	// called for every job, from many goroutines at once, and must not block.
	Requested(jobID string, stored time.Time) bool
}

// Canceled reports whether the end of a delivery's job was asked for. It may be called while the delivery is run.
func (e *Executor) Canceled(d *Delivery) bool {
	return e.opts.Cancellations != nil && e.opts.Cancellations.Requested(e.decoder.Scan(&d.Message).ID, d.Timestamp)
}

// errCanceled and errExpired say why a job is not to be begun, or not once more.
var (
	errCanceled = errors.New("the job was cancelled")
	errExpired  = errors.New("the job expired before it started")
)

// preempted says why the job is not to be begun any more; nil: it may begin.
func (r *run) preempted() error {
	switch {
	case r.canceled():
		return errCanceled
	case !r.job.ExpiresAt.IsZero() && !time.Now().Before(r.job.ExpiresAt):
		return errExpired
	default:
		return nil
	}
}

func (r *run) canceled() bool {
	c := r.e.opts.Cancellations
	return c != nil && c.Requested(r.id, r.d.Timestamp)
}

// mayHaveTakenEffect reports whether the job may have had its effect: an earlier delivery may have begun it, an execution of
// this one ended without the server's answer, or was stopped in work of which parts stay. Any other execution that came
// to no end was rolled back.
func (r *run) mayHaveTakenEffect() bool {
	return r.d.begunBefore || r.d.sawUnknown || r.d.attempts > 0 && r.job.LeavesPartialEffects()
}

// stopped finishes work that was stopped because its job was cancelled, where its answer lists what stays. Otherwise the next
// run of the delivery, under a context that lives, finishes it.
func (r *run) stopped(given jobs.Answer) Outcome {
	if r.effect != contract.AtLeastOnce || !given.Filled || !r.job.LeavesPartialEffects() || !r.canceled() {
		return Outcome{Action: Undecided}
	}
	return r.outcome(r.complete(contract.Unknown, stoppedError(), given))
}
