package contract

import "time"

// CancelAnswer is the answer to a cancel request.
type CancelAnswer struct {
	Version   int        `json:"version"`
	Database  string     `json:"database"`
	JobID     string     `json:"job_id"`
	Outcome   string     `json:"outcome"`              // CancelDone, CancelTooLate or CancelKept
	Status    Status     `json:"status,omitempty"`     // of the job's result
	KeptUntil *time.Time `json:"kept_until,omitempty"` // about when a request that is kept expires
}

// HealthAnswer is the answer to a health request: a health check made for it.
type HealthAnswer struct {
	Version  int    `json:"version"`
	Runner   string `json:"runner"`
	Database string `json:"database"`
	*Health
}

// Refusal is the body of an answer that is an error.
type Refusal struct {
	Error    RefusalError `json:"error"`
	Database string       `json:"database,omitempty"`
	JobID    string       `json:"job_id,omitempty"` // of the job that was published nevertheless, or may have been
}

// RefusalError is why a request was refused.
type RefusalError struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"` // the same request may succeed later
}

// RunningAnswer is a runner's answer to the request what runs on a database now, or a part of it: one that does not fit into
// a message has more than one.
type RunningAnswer struct {
	Version  int          `json:"version"`
	Runner   string       `json:"runner"`
	Process  string       `json:"process"` // as in the runner's heartbeat
	Database string       `json:"database"`
	At       time.Time    `json:"at"`        // by the runner's clock, as all times of its jobs except queued_at
	Part     int          `json:"part"`      // from 1
	Parts    int          `json:"parts"`     // messages of this answer
	InFlight int          `json:"in_flight"` // jobs in all of them
	Jobs     []RunningJob `json:"jobs"`
}

// RunningJob is a job that a runner has in flight: it was delivered there, and is not acknowledged yet.
type RunningJob struct {
	JobID      string    `json:"job_id"` // the derived one if the body's id cannot be read
	Kind       string    `json:"kind"`
	Call       string    `json:"call,omitempty"`  // name of the statement that a job of kind call runs
	Queue      string    `json:"queue,omitempty"` // missing: it is in no queue
	State      string    `json:"state"`           // JobWaiting, JobExecuting, JobSettling or JobAwaitingResume
	Code       string    `json:"code,omitempty"`  // of its error, if it awaits the resume of its queue
	Sequence   uint64    `json:"sequence"`
	QueuedAt   time.Time `json:"queued_at"`  // when the stream stored it
	Since      time.Time `json:"since"`      // when the runner received this delivery
	Deliveries uint64    `json:"deliveries"` // of the message so far
	Attempts   uint64    `json:"attempts"`   // executions that this delivery started

	ExecutingSince *time.Time `json:"executing_since,omitempty"` // start of the last execution, while it runs
	LeaseLost      bool       `json:"lease_lost,omitempty"`      // another runner may have the job as well
}
