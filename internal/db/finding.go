package db

import (
	"context"
	"time"

	"dbrunner/internal/db/dialect"
)

// Grade is what a finding means to the operator.
type Grade string

// The grades, from the best to the worst.
const (
	GradeOK      Grade = "ok"
	GradeNote    Grade = "note"    // worth to know
	GradeWarning Grade = "warning" // jobs run, and an operator should look at it
	GradeFault   Grade = "fault"   // jobs do not run, or must be expected to fail
)

// Finding is one thing that a look has found. Its texts hold no secret, no SQL and no value of a job.
type Finding struct {
	Part    string        `json:"part"` // what was looked at, e.g. "tls", "locks"
	Grade   Grade         `json:"grade"`
	Text    string        `json:"text"`
	Remedy  string        `json:"remedy,omitempty"` // what to do about it
	Latency time.Duration `json:"latency_ns,omitempty"`
}

// The parts of a look at a database that all engines have in common.
const (
	PartHost     = "dns"
	PartTCP      = "tcp"
	PartTLS      = "tls"
	PartFile     = "file" // of a database without a server
	PartLogin    = "login"
	PartQuery    = "query"
	PartServer   = "server"
	PartSettings = "settings"
	PartLocks    = "locks"
	PartSessions = "sessions" // long statements, transactions that are left open
	PartLedger   = "ledger"
)

// LoginInspector is a Database whose server can list what its login may do beyond the transactions of jobs. A finding is a note if
// every login may do it by default. It uses a connection of the pool for up to the timeout.
type LoginInspector interface {
	InspectLogin(ctx context.Context, timeout time.Duration) ([]Finding, error)
}

// Diagnoser is a Database that says more of itself than jobs need. All of it is for people, takes place beside the pool
// unless said otherwise, and changes nothing.
type Diagnoser interface {
	// Caveats says without connecting what is less safe than it could be in the way that the database is reached.
	Caveats() []Finding

	// Stages goes the way to the server stage by stage and ends with the first that fails, which is a fault.
	Stages(ctx context.Context) []Finding

	// Diagnose looks at the server: version, settings that matter, locks, long statements, the size of the ledger. What
	// the login may not see is a note. An error means that there was no connection.
	Diagnose(ctx context.Context, how Diagnosis) ([]Finding, error)

	// DryRun does what Probe does over a connection of the pool and creates nothing: it returns in words what Probe
	// would create, and as an error what Probe would refuse.
	DryRun(ctx context.Context) (creates []string, err error)
}

// Preparer is a Database whose server judges statements that it does not run.
type Preparer interface {
	// Prepare returns why the server refuses a statement: its syntax, the objects that it names, the types of its parameters,
	// whose values do not matter; nil: it accepts it. Privileges are found out only when the statement runs.
	Prepare(ctx context.Context, stmt *dialect.Compiled) error
}

// Diagnosis reports what a look goes into.
type Diagnosis struct {
	PoolMax   int  // connections of one runner at most
	Integrity bool // also look at the stored data itself, where the engine can, which may take long
}
