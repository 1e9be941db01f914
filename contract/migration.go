package contract

// Migration is what a migration job did or found. Its lists have at most 500 entries each.
type Migration struct {
	Action        string             `json:"action"`
	VersionBefore string             `json:"version_before"`
	VersionAfter  string             `json:"version_after"`
	Latest        string             `json:"latest"`
	Dirty         bool               `json:"dirty"`
	Files         []MigrationFile    `json:"files,omitempty"`   // that this action ran, adopted or forgot, in order
	Pending       []PendingMigration `json:"pending,omitempty"` // that are not applied
	PendingCount  int                `json:"pending_count"`
	Problems      []MigrationProblem `json:"problems,omitempty"`    // why the next migration cannot run
	Interrupted   string             `json:"interrupted,omitempty"` // what an interrupted migration left, and what to do
	Running       *MigrationSession  `json:"running,omitempty"`     // a migration that another session runs
	Notes         []string           `json:"notes,omitempty"`       // what was repaired or set besides the files
	Plan          []PlannedMigration `json:"plan,omitempty"`
	History       []MigrationFile    `json:"history,omitempty"` // of action status, oldest first
	// Omitted is how many entries of the lists are left out, and statements of the plan, to keep the answer in its bounds.
	Omitted int `json:"omitted,omitempty"`
}

// MigrationFile is a file that was run, adopted or forgotten.
type MigrationFile struct {
	Version    string `json:"version"`
	File       string `json:"file"`
	Direction  string `json:"direction"` // up, down, adopt, forget
	State      string `json:"state"`     // done, failed, running
	SHA256     string `json:"sha256,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Runner     string `json:"runner"`
	JobID      string `json:"job_id,omitempty"`
	At         string `json:"at"`
}

// PendingMigration is a file that is not applied.
type PendingMigration struct {
	Version string `json:"version"`
	File    string `json:"file"`
}

// MigrationProblem is one reason why a migration cannot run.
type MigrationProblem struct {
	File    string `json:"file,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// MigrationSession is a migration under way in another session.
type MigrationSession struct {
	File       string `json:"file,omitempty"`
	Statement  int    `json:"statement,omitempty"`
	Statements int    `json:"statements,omitempty"`
	Runner     string `json:"runner,omitempty"`
	JobID      string `json:"job_id,omitempty"`
	Since      string `json:"since,omitempty"`
	Session    string `json:"session"`
}

// PlannedMigration is a file that would be run.
type PlannedMigration struct {
	Version    string             `json:"version"`
	File       string             `json:"file"`
	Direction  string             `json:"direction"`
	Stepwise   string             `json:"stepwise,omitempty"` // why its statements take effect one by one
	Count      int                `json:"statement_count"`
	Statements []PlannedStatement `json:"statements,omitempty"`
}

// PlannedStatement is a statement, or batch, of a plan.
type PlannedStatement struct {
	Line  int    `json:"line"`
	SQL   string `json:"sql"`
	Times int    `json:"times,omitempty"` // where it is sent more than once
}
