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

// RefusalError says why a request was refused.
type RefusalError struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"` // the same request may succeed later
}
