package app

import (
	"dbrunner/contract"
	"dbrunner/internal/api"
)

// The headers of requests to the service.
const (
	// HeaderWait says how long a request waits for a job's end, as a Go duration.
	HeaderWait = contract.HeaderWait
	// HeaderRequestedBy says who asks for a job's end, in words of his own.
	HeaderRequestedBy = contract.HeaderRequestedBy
)

// What became of a job that somebody wanted cancelled.
const (
	// CancelDone: the job ended as cancelled.
	CancelDone = contract.CancelDone
	// CancelTooLate: the job had ended otherwise, or did so before the request reached it.
	CancelTooLate = contract.CancelTooLate
	// CancelKept: nothing is known of the job yet; the request is kept and honoured.
	CancelKept = contract.CancelKept
)

// CancelAnswer is the answer to a request to cancel a job.
type CancelAnswer = api.CancelAnswer
