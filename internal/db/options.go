package db

import "time"

// Options is what every engine is opened with. Opening checks the options and does not connect: what a
// server refuses shows in Probe.
type Options struct {
	Name             string // of the configured database
	Namespace        string
	Runner           string // instance name, for the session's application name
	ConnectionString string // secret: never in a log or an error
	// Reread returns the connection string for a new session: its password may have been rotated. nil: it never changes.
	Reread          func() string
	Ledger          LedgerMode
	Pool            PoolOptions
	Limits          Limits
	TransactionPool bool // a pooler in transaction mode stands before the server (PgBouncer)

	// SharedCommits lets transactions that say so share a commit (Transaction.Shared).
	SharedCommits bool
	Settings      map[string]string // the engine's own settings, by name; unknown ones are an error
}

// PoolOptions bound a pool.
type PoolOptions struct {
	Min, Max       int // connections kept, connections at most
	MaxLifetime    time.Duration
	LifetimeJitter time.Duration
	MaxIdleTime    time.Duration
	ConnectTimeout time.Duration
	PingAfterIdle  time.Duration // a connection idle for longer is pinged before use
}

// Limits are set in every session; the server enforces them beside the context's deadline.
type Limits struct {
	StatementTimeout  time.Duration // of a job that sets none; a call with another one gets it for its transaction
	LockTimeout       time.Duration
	IdleInTransaction time.Duration
	CountsRows        bool // transactions have a limit on the rows that they write: Probe refuses a server that counts none
}
