package delivery

import (
	"errors"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/jobs"
)

// Cancellations holds the cancel requests of one database.
type Cancellations interface {
	// Requested reports whether the job with this id was cancelled after its message was stored. It is
	// called for every job, concurrently, and must not block.
	Requested(jobID string, stored time.Time) bool
}

// Canceled reports whether a delivery's job was cancelled. It may be called while the delivery is run.
func (e *Executor) Canceled(d *Delivery) bool {
	return e.opts.Cancellations != nil && e.opts.Cancellations.Requested(e.decoder.Scan(&d.Message).ID, d.Timestamp)
}

// Preemption reports what finishes a delivery that is not started: a request to cancel it, or the time at which it expires,
// zero if it does not. It decodes the delivery, and may be called while that is run.
func (e *Executor) Preemption(d *Delivery) (canceled bool, expires time.Time) {
	defer func() { _ = recover() }() // of a body whose decoding is a defect: Run reports it
	if e.Canceled(d) {
		return true, time.Time{}
	}
	if d.Deliveries <= e.opts.Policy.MaxDeliveries { // what decoding it does to runners, it does not do here
		if job, rejection := e.decoder.Decode(&d.Message); rejection == nil {
			expires = job.ExpiresAt
		}
	}
	return false, expires
}

// errCanceled and errExpired are the reasons not to start a job, or not to start it again.
var (
	errCanceled = errors.New("the job was cancelled")
	errExpired  = errors.New("the job expired before it started")
)

// preempted returns why the job must not start any more; nil: it may start.
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

// mayHaveTakenEffect reports whether the job may have had its effect: an earlier delivery may have started it, an execution of
// this one ended without the server's answer, or was stopped in work of which parts stay. Any other execution that came
// to no end was rolled back.
func (r *run) mayHaveTakenEffect() bool {
	return r.d.startedBefore || r.d.sawUnknown || r.d.attempts > 0 && r.job.LeavesPartialEffects()
}

// stopped finishes work that was stopped because its job was cancelled, where its answer lists what stays. Otherwise the next
// run of the delivery, under a context that lives, finishes it.
func (r *run) stopped(given jobs.Answer) Outcome {
	if r.effect != contract.AtLeastOnce || !given.Filled || !r.job.LeavesPartialEffects() || !r.canceled() {
		return Outcome{Action: Undecided}
	}
	return r.outcome(r.complete(contract.Unknown, stoppedError(), given))
}
