package contract

import "time"

// RunnerHeartbeat is the state of a runner; the stream keeps the last one.
type RunnerHeartbeat struct {
	Version    int       `json:"version"` // of this message
	Instance   string    `json:"instance"`
	Process    string    `json:"process"` // another one for each run of the runner
	Host       string    `json:"host,omitempty"`
	PID        int       `json:"pid"`
	Shared     bool      `json:"instance_shared,omitempty"` // another process has the same instance name
	Build      string    `json:"build"`
	State      string    `json:"state"`
	StartedAt  time.Time `json:"started_at"`
	At         time.Time `json:"at"`
	Uptime     float64   `json:"uptime_seconds"`
	Interval   float64   `json:"interval_seconds"` // the next one comes within this time
	Reconnects uint64    `json:"nats_reconnects"`
	Denied     []string  `json:"nats_denied,omitempty"` // subjects that the server refused: permissions are too narrow
	// Answers that the server did not deliver to where their requesters wanted them.
	DeniedReplies uint64           `json:"nats_denied_replies,omitempty"`
	Databases     []DatabaseStatus `json:"databases"`

	Topology []TopologyProblem `json:"topology,omitempty"` // streams and consumers that are not as they should be
}

// DatabaseStatus is one database as a runner works on it.
type DatabaseStatus struct {
	Name    string  `json:"name"`
	Engine  string  `json:"engine"`
	Verdict Verdict `json:"verdict,omitempty"` // of the last look; missing before the first one
	Condition
	Catalog string       `json:"catalog,omitempty"` // hash of the runner's catalog
	Lanes   []LaneStatus `json:"lanes"`
	Results *ResultsRoom `json:"results,omitempty"` // missing before they were looked at
}

// Condition is whether a database's jobs run.
type Condition struct {
	State  string     `json:"state"`            // up, down, results_full, blocked, paused
	Reason string     `json:"reason,omitempty"` // why it is not up
	Since  *time.Time `json:"since,omitempty"`
}

// LaneStatus is one lane. What counts up does so since the runner's start.
type LaneStatus struct {
	Name       string           `json:"name"`
	Queue      string           `json:"queue,omitempty"` // whose jobs it runs; missing: it is no queue's
	Slots      int              `json:"slots"`
	SlotsInUse int              `json:"slots_in_use"`
	Settling   int              `json:"settling"`
	Settled    map[Status]int64 `json:"jobs"` // by how they ended
	Duplicates int64            `json:"duplicates"`
	LeasesLost int64            `json:"leases_lost"`
	Lag        *LaneLag         `json:"lag,omitempty"` // missing before it was asked
	Intake     string           `json:"intake_error,omitempty"`
	Failed     *FailedJob       `json:"failed,omitempty"` // of an ordered queue: the job that keeps it waiting, if this runner has it
}

// FailedJob is the first job of an ordered queue, which failed and keeps the queue waiting until an operator resumes it.
type FailedJob struct {
	JobID    string    `json:"job_id"`
	Kind     string    `json:"kind"`
	Call     string    `json:"call,omitempty"`
	Status   Status    `json:"status"`
	Code     string    `json:"code,omitempty"` // of the error
	Sequence uint64    `json:"sequence"`       // of its message
	QueuedAt time.Time `json:"queued_at"`
	Since    time.Time `json:"since"` // since when this runner keeps it
}

// LaneLag is how far a lane is behind, in the whole fleet.
type LaneLag struct {
	Pending     uint64    `json:"waiting"`     // jobs that no runner has yet
	AckPending  int       `json:"held"`        // jobs that runners have
	Redelivered int       `json:"redelivered"` // of those
	At          time.Time `json:"at"`
}

// ResultsRoom is the room of a results stream.
type ResultsRoom struct {
	Kept      uint64  `json:"kept"`
	KeptBytes uint64  `json:"kept_bytes"`
	Left      *uint64 `json:"room,omitempty"` // missing where there is no limit
	LeftBytes *uint64 `json:"room_bytes,omitempty"`
}

// DatabaseHeartbeat is the state of a database as a runner sees it; the stream keeps the last one.
type DatabaseHeartbeat struct {
	Version     int       `json:"version"` // of this message
	Database    string    `json:"database"`
	Engine      string    `json:"engine"`
	Instance    string    `json:"instance"`
	Process     string    `json:"process"`
	RunnerState string    `json:"runner_state"`
	At          time.Time `json:"at"`
	Interval    float64   `json:"interval_seconds"`
	Condition
	CheckedAt *time.Time       `json:"checked_at,omitempty"` // missing with all that the look found, before the first one
	*Health                    // of the last look
	Sweep     *LedgerCleanup   `json:"ledger,omitempty"`
	Outbox    *OutboxStatus    `json:"outbox,omitempty"`    // missing: no rows are relayed from here
	Pauses    []ActivePause    `json:"pauses,omitempty"`    // that this runner obeys
	Catalog   string           `json:"catalog,omitempty"`   // hash of the runner's catalog; missing: it has none
	Schedules *ScheduleSummary `json:"schedules,omitempty"` // missing: there are none
	Running   *int             `json:"running,omitempty"`   // while paused: jobs of paused lanes that this runner has started and not finished
}

// ScheduleSummary is how the schedules of a database are, as a runner sees them.
type ScheduleSummary struct {
	Total    int             `json:"total"`
	Paused   int             `json:"paused,omitempty"`
	Finished int             `json:"finished,omitempty"`        // they have no further tick
	Failing  int             `json:"failing,omitempty"`         // they do not fire
	Errors   []ScheduleError `json:"errors,omitempty"`          // of the first 20 that do not fire, by key
	Overdue  float64         `json:"overdue_seconds,omitempty"` // how long the oldest tick that is due has not been settled
	Problem  string          `json:"problem,omitempty"`         // why no schedule fires here, or an operator should look at where they are kept
}

// ScheduleError is why a schedule does not fire.
type ScheduleError struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

// OutboxStatus is how the outbox of a database stands. The numbers of rows are at most 10,000.
type OutboxStatus struct {
	Relayed uint64     `json:"relayed"`           // rows that this runner has published, since its start
	Waiting *int       `json:"waiting,omitempty"` // rows that are not published yet; missing before they were counted
	Failed  *int       `json:"failed,omitempty"`  // rows with an error
	Oldest  *time.Time `json:"oldest,omitempty"`  // when the oldest waiting row was inserted
	Trouble string     `json:"trouble,omitempty"` // what an operator should look at
}

// LedgerCleanup is how the cleanup of a ledger stands.
type LedgerCleanup struct {
	SweptAt    *time.Time `json:"swept_at,omitempty"`
	Deleted    int64      `json:"deleted"`
	HeldBackBy *time.Time `json:"held_back_by,omitempty"` // timestamp of the message that the cleanup waits for
	Error      string     `json:"error,omitempty"`
}

// TopologyProblem is a stream or consumer that is not as the runner needs it, in its heartbeat.
type TopologyProblem struct {
	Resource string    `json:"resource"`
	Database string    `json:"database,omitempty"` // missing: all of them
	Effect   string    `json:"effect"`             // stops, differs or note
	Problem  string    `json:"problem"`
	Remedy   string    `json:"remedy"`
	Since    time.Time `json:"since"`
}

// The effects of a problem.
const (
	EffectStops   = "stops"   // jobs wait
	EffectDiffers = "differs" // jobs run, under other settings than those configured; no runner starts
	EffectNote    = "note"    // runners work with it
)
