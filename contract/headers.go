package contract

// The headers of jobs.
const (
	// HeaderMessageID is the message's id, for the stream's deduplication. It is also the id of a job whose body has none.
	HeaderMessageID = "Nats-Msg-Id"
	// HeaderTraceParent is the W3C trace context of a job or result.
	HeaderTraceParent = "traceparent"
	// HeaderRedriveOf is the id of the job that was published again from its dead letter.
	HeaderRedriveOf = "Dbrunner-Redrive-Of"
	// HeaderStoredBy is the time, in RFC 3339, by which a stream must have stored the message: a message stored later does not
	// run. Relays of outboxes set it.
	HeaderStoredBy = "Dbrunner-Stored-By"
)

// The headers of requests to the service.
const (
	// HeaderWait is how long a request waits for a job's result, as a Go duration.
	HeaderWait = "Dbrunner-Wait"
	// HeaderRequestedBy names who cancels a job.
	HeaderRequestedBy = "Dbrunner-Requested-By"
	// HeaderProbe marks a request that only asks whether a runner would answer. It gets no answer.
	HeaderProbe = "Dbrunner-Probe"
)

// The headers of dead letters. The payload of a dead letter is the job's body, unchanged.
const (
	// HeaderPrefix starts the names of all headers that runners write.
	HeaderPrefix = "Dbrunner-"

	HeaderJobID      = HeaderPrefix + "Job-Id"
	HeaderReason     = HeaderPrefix + "Reason"    // a status or a code
	HeaderCode       = HeaderPrefix + "Code"      // error.code of the result
	HeaderMessage    = HeaderPrefix + "Message"   // error.message of the result
	HeaderFaults     = HeaderPrefix + "Faults"    // JSON array of {path, code, message}
	HeaderResultID   = HeaderPrefix + "Result-Id" // id of the stored result; missing if there is none
	HeaderSequence   = HeaderPrefix + "Sequence"  // of the job's message in its stream
	HeaderQueuedAt   = HeaderPrefix + "Queued-At" // time of the job's message in its stream, RFC 3339
	HeaderDeliveries = HeaderPrefix + "Deliveries"
	HeaderRunner     = HeaderPrefix + "Runner"
	HeaderSubject    = HeaderPrefix + "Subject" // of the job's message, whole

	// HeaderOriginal precedes the names of the job's own headers that would mean something in a dead letter.
	HeaderOriginal = HeaderPrefix + "Header-"
	// HeaderDropped counts the headers for which the dead letter had no room.
	HeaderDropped = HeaderPrefix + "Headers-Dropped"
)
