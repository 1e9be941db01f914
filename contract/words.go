package contract

// Version is the version of the contract, the key version of every body.
const Version = 1

// Effect is what a redelivery of a job may do to its database.
type Effect string

// The effects.
const (
	ReadOnly    Effect = "read_only"
	ExactlyOnce Effect = "exactly_once"
	AtLeastOnce Effect = "at_least_once"
	AtMostOnce  Effect = "at_most_once"
	RolledBack  Effect = "rolled_back" // of a dry run
)

// Fenced reports whether each outcome of such a job has a row in the ledger.
func (e Effect) Fenced() bool { return e == ExactlyOnce || e == AtMostOnce }

// MayChange reports whether such a job may leave something changed in its database.
func (e Effect) MayChange() bool { return e != ReadOnly && e != RolledBack }

// Status is how a job finished.
type Status string

// The statuses.
const (
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Rejected  Status = "rejected"
	Canceled  Status = "cancelled"
	Expired   Status = "expired"
	Unknown   Status = "unknown"
)

// The reasons of dead letters besides the statuses failed, rejected and unknown.
const (
	ReasonTooManyDeliveries = string(CodeTooManyDeliveries)
	ReasonJobIDReused       = string(CodeIDReused)
	ReasonResultIDTaken     = string(CodeResultTaken)
	ReasonStoredLate        = "stored_late" // the message was stored after the time in its HeaderStoredBy
)

// DeadLetterReasons returns all reasons of dead letters.
func DeadLetterReasons() []string {
	return []string{
		string(Rejected), string(Failed), string(Unknown),
		ReasonTooManyDeliveries, ReasonJobIDReused, ReasonResultIDTaken, ReasonStoredLate,
	}
}

// The outcomes of a cancel request.
const (
	CancelDone    = "cancelled"        // the job finished as cancelled
	CancelTooLate = "already_finished" // the job had finished otherwise, or did before the request reached it
	CancelKept    = "requested"        // nothing is known of the job yet; the request is kept
)

// The states of a job that a runner has in flight.
const (
	JobWaiting   = "waiting"   // for a connection, for its database, or for its turn in quarantine
	JobExecuting = "executing" // or between two attempts
	JobSettling  = "settling"  // finished: its result is being stored
	// JobAwaitingResume: failed, in an ordered queue, which waits until an operator resumes it.
	JobAwaitingResume = "awaiting_resume"
)

// Verdict is how healthy a database is.
type Verdict string

// The verdicts, from the best to the worst.
const (
	Healthy   Verdict = "healthy"
	Degraded  Verdict = "degraded"  // its jobs run, but an operator should look at it
	Unhealthy Verdict = "unhealthy" // its jobs do not run or must be expected to fail
)

// The states of a runner.
const (
	RunnerStarting = "starting"
	RunnerRunning  = "running"
	RunnerDraining = "draining"
	RunnerStopped  = "stopped"
)

// The states of a database, as a runner sees it.
const (
	DatabaseUp          = "up"
	DatabaseDown        = "down"
	DatabaseResultsFull = "results_full"
	DatabaseBlocked     = "blocked" // a stream or consumer that its jobs need is missing, paused or unusable
	DatabasePaused      = "paused"  // an operator has paused it
)

// Fault is one error in a job's body. Path is a JSON path such as "params.account" or "statements[2].sql"; empty for the
// whole body.
type Fault struct {
	Path    string `json:"path"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Role is what a server is among its replicas.
type Role string

// The roles.
const (
	RolePrimary Role = "primary" // or the only server
	RoleStandby Role = "standby"
)
