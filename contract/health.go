package contract

import "time"

// The checks of a database.
const (
	CheckConnection  = "connection"
	CheckQuery       = "query"
	CheckReplication = "replication"
	CheckPool        = "pool"
	CheckMigrations  = "migrations"
	CheckJobs        = "jobs"
)

// HealthChecks returns the words for the checks, in the order of their reasons.
func HealthChecks() []string {
	return []string{CheckConnection, CheckQuery, CheckReplication, CheckPool, CheckMigrations, CheckJobs}
}

// Health is the result of a health check. A check that was not requested or was not possible is left out.
type Health struct {
	Verdict Verdict  `json:"verdict"` // the worst of the checks'
	Reasons []string `json:"reasons"` // each starts with the name of its check
	Checks  struct {
		Connection  *ConnectionHealth  `json:"connection,omitempty"`
		Query       *QueryHealth       `json:"query,omitempty"`
		Replication *ReplicationHealth `json:"replication,omitempty"`
		Pool        *PoolHealth        `json:"pool,omitempty"`
		Migrations  *MigrationHealth   `json:"migrations,omitempty"`
		Jobs        *IntakeHealth      `json:"jobs,omitempty"`
	} `json:"checks"`
}

// ConnectionHealth is about a new connection.
type ConnectionHealth struct {
	Verdict Verdict `json:"verdict"`
	Latency float64 `json:"latency_seconds,omitempty"` // until it was open, login included
}

// QueryHealth is about a trivial query over it.
type QueryHealth struct {
	Verdict Verdict `json:"verdict"`
	Latency float64 `json:"latency_seconds,omitempty"`
	Version string  `json:"server_version,omitempty"`
}

// ReplicationHealth is the role of the server and whether it accepts writes.
type ReplicationHealth struct {
	Verdict  Verdict `json:"verdict"`
	Role     Role    `json:"role,omitempty"` // empty if the server does not report it
	ReadOnly bool    `json:"read_only"`
}

// PoolHealth is the pool that jobs use. Counters count since the runner's start.
type PoolHealth struct {
	Verdict          Verdict `json:"verdict"`
	Max              int     `json:"max"`
	Open             int     `json:"open"`
	Idle             int     `json:"idle"`
	InUse            int     `json:"in_use"`
	Waiting          int     `json:"waiting"`
	Acquires         int64   `json:"acquires"`
	CanceledAcquires int64   `json:"cancelled_acquires"`
	AcquireWait      float64 `json:"acquire_wait_seconds"`
	LongestWait      float64 `json:"longest_wait_seconds"` // of the calls that wait now
}

// MigrationHealth is how the database's schema compares with the runner's migrations.
type MigrationHealth struct {
	Verdict Verdict `json:"verdict"`
	Migrations
}

// IntakeHealth is whether this runner runs the database's jobs.
type IntakeHealth struct {
	Verdict Verdict `json:"verdict"`
}

// Migrations is how a database's schema compares with the runner's migrations.
type Migrations struct {
	Current string            `json:"current"` // version of the database, or "none"
	Latest  string            `json:"latest"`  // version of the last migration that the runner has, or "none"
	Pending int               `json:"pending"`
	Dirty   bool              `json:"dirty"`             // a migration was interrupted
	Problem string            `json:"problem,omitempty"` // history and files contradict each other
	Running *RunningMigration `json:"running,omitempty"`
}

// RunningMigration is a migration under way.
type RunningMigration struct {
	JobID  string    `json:"job_id,omitempty"`
	Runner string    `json:"runner,omitempty"`
	File   string    `json:"file,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}
