package worker

import (
	"time"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
)

// InFlight lists the jobs of a lane that are in flight. jobID reads a job's id from its message; it is called once for each
// delivery. Nothing is noted for it while jobs run that they do not note anyway.
func InFlight(l *Lane, jobID func(*delivery.Delivery) string) []contract.RunningJob {
	var out []contract.RunningJob
	leases, now := l.opts.Now(), time.Now()
	for _, h := range l.table.snapshot(nil) {
		if job, ok := h.describe(jobID, leases, now); ok {
			out = append(out, job)
		}
	}
	return out
}

// describe describes the delivery; false: it has left the runner. leases and now are the same moment by the clock of leases
// and by that of the host.
func (h *inFlight) describe(jobID func(*delivery.Delivery) string, leases, now time.Time) (contract.RunningJob, bool) {
	id := h.readID(jobID)
	h.mu.Lock()
	defer h.mu.Unlock()
	job := contract.RunningJob{
		JobID: id, Kind: h.delivery.Kind, Call: h.delivery.Name, Queue: h.delivery.Queue, Sequence: h.delivery.Sequence, QueuedAt: h.delivery.Timestamp.UTC(), Since: h.arrived.UTC(),
		Deliveries: h.delivery.Deliveries, Attempts: uint64(h.attempts), LeaseLost: h.expired(leases),
	}
	switch h.stage {
	case waiting:
		job.State = contract.JobWaiting
	case running:
		job.State = contract.JobExecuting
		since := now.Add(-leases.Sub(h.startedAt)).UTC()
		job.ExecutingSince = &since
	case settling, acknowledging:
		job.State = contract.JobSettling
	case awaitingResume:
		job.State, job.Code = contract.JobAwaitingResume, h.failed.Code
	case returned:
		return contract.RunningJob{}, false
	}
	return job, true
}

// readID returns the job's id. A body may be large: it is read outside of the mutex, and once.
func (h *inFlight) readID(jobID func(*delivery.Delivery) string) string {
	h.mu.Lock()
	id := h.jobID
	h.mu.Unlock()
	if id != "" {
		return id
	}
	id = jobID(&h.delivery)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobID = id
	return id
}
