package config

import (
	"maps"
	"slices"
	"time"
)

// Database says how one target database is reached and used. Its name is its key; what it leaves out comes from the
// defaults.
type Database struct {
	// the database's engine
	Type string `key:"type" format:"engine"`
	// how the database is reached, in the words of its engine
	ConnectionString Secret `key:"connection_string"`
	// the same database reached past a pooler in transaction mode: migrations and at_most_once jobs need a session of
	// their own
	DirectConnectionString Secret `key:"direct_connection_string"`
	// apply what is pending before the first job runs
	MigrateOnStart bool       `key:"migrate_on_start" default:"false"`
	Migrations     Migrations `key:"migrations"`

	Defaults `key:",inline"`
}

// Migrations says where the files are that bring the database from one version of its schema to another.
type Migrations struct {
	// folder of the files
	Folder string `key:"folder" auto:"migrations/<database>"`
	// how the database is reached by a login that may change its schema; empty: direct_connection_string, or
	// connection_string
	ConnectionString Secret `key:"connection_string"`
	// allow files whose version is below the database's; a job or command may allow it to itself
	OutOfOrder bool `key:"out_of_order" default:"false"`
}

// Defaults are the keys that databases may share.
type Defaults struct {
	// kinds of jobs that run here; empty: all
	Kinds []string `key:"kinds" format:"kind"`
	// effects that jobs may have here; empty: all that the ledger allows
	Effects []string `key:"effects" format:"effect"`
	// ends of jobs that leave a dead letter; [] for none
	DeadLetters []string `key:"dead_letters" auto:"all" format:"reason"`

	// jobs of this database that the runner holds at once; beyond 4 × pool.max only while they end quickly. The default
	// is less where worker.max_slots or topology.max_ack_pending leave less
	Slots int `key:"slots" auto:"16 × pool.max" min:"1" max:"100000"`
	// transaction: a pooler in transaction mode (PgBouncer) stands before the server
	Pooler string `key:"pooler" default:"none" oneof:"none|transaction"`

	// limit of one attempt for a job that sets none
	Timeout time.Duration `key:"timeout" default:"30s" min:"1ms" max:"24h"`
	// highest timeout that a job may set
	MaxTimeout time.Duration `key:"max_timeout" default:"15m" min:"1ms" max:"24h"`

	// longest wait for one lock in the database
	LockTimeout time.Duration `key:"lock_timeout" default:"10s" min:"1ms" max:"24h"`
	// the server ends a transaction that says nothing for this long
	IdleInTransaction time.Duration `key:"idle_in_transaction" default:"1m" min:"1s" max:"24h"`
	// rows that one result may hold
	MaxRows int64 `key:"max_rows" default:"100000" min:"1"`
	// encoded rows that one result may hold; with its envelope a result must fit the NATS server's max_payload
	MaxBytes Size `key:"max_bytes" default:"768KiB" min:"1KiB" max:"64MiB"`

	// settings that only this engine has
	Settings map[string]string `key:"settings"`

	Output Output                 `key:"output"`
	Pool   Pool                   `key:"pool"`
	ByKind map[string]*KindLimits `key:"by_kind" each:"kind"`
	Ledger Ledger                 `key:"ledger"`
	Retry  Retry                  `key:"retry"`
	Health Health                 `key:"health"`
}

// Output bounds the rows that have no room in their result and go to the object store instead.
type Output struct {
	// whether rows go there; otherwise a job fails whose rows have no room in its result
	Enabled bool `key:"enabled" default:"true"`
	// rows that one job may return that way
	MaxRows int64 `key:"max_rows" default:"100000000" min:"1"`
	// rows that one job may return that way, bytes of them as JSON
	MaxBytes Size `key:"max_bytes" default:"2GiB" min:"1KiB"`
}

// Pool bounds a database's connections.
type Pool struct {
	// connections kept open; less where it is not written and pool.max is less
	Min int `key:"min" default:"5" min:"0" max:"10000"`
	// connections open at most
	Max int `key:"max" default:"15" min:"1" max:"10000"`
	// a connection is replaced at this age
	MaxLifetime time.Duration `key:"max_lifetime" default:"1h" min:"1s"`
	// up to this much is added to max_lifetime, so that connections are not replaced all at once
	LifetimeJitter time.Duration `key:"lifetime_jitter" default:"6m" min:"0s"`
	// a connection above pool.min is closed after this long without work
	MaxIdleTime time.Duration `key:"max_idle_time" default:"30m" min:"1s"`
	// limit of one attempt to connect
	ConnectTimeout time.Duration `key:"connect_timeout" default:"10s" min:"100ms" max:"5m"`
	// a connection idle for longer is tried before it gets a job
	PingAfterIdle time.Duration `key:"ping_after_idle" default:"30s" min:"1s"`
}

// KindLimits override a database's time limits for one kind; zero: as the database.
type KindLimits struct {
	// limit of one attempt for a job of this kind that sets none; of kind migration 1h unless set here
	Timeout time.Duration `key:"timeout" auto:"the database's" min:"1ms" max:"24h"`
	// highest timeout that a job of this kind may set; of kind migration 24h unless set here
	MaxTimeout time.Duration `key:"max_timeout" auto:"the database's" min:"1ms" max:"24h"`
}

// Ledger says how the table is looked after that makes effects happen once.
type Ledger struct {
	// manage creates the table when missing; verify wants it there; off refuses exactly_once and at_most_once
	Mode string `key:"mode" default:"manage" oneof:"manage|verify|off"`
	// how long a row is kept: within this time a job id may not be used again
	Retention time.Duration `key:"retention" default:"48h" min:"1s"`
	// how often old rows are looked for
	SweepInterval time.Duration `key:"sweep_interval" default:"1m" min:"1s" max:"24h"`
}

// Retry bounds the repetitions of transient failures (deadlock, serialization failure) within one delivery.
type Retry struct {
	// executions at most, the first one included
	Attempts int `key:"attempts" default:"5" min:"1" max:"100"`
	// pause before the second execution; doubles each time, with jitter
	Delay time.Duration `key:"delay" default:"20ms" min:"1ms" max:"1m"`
	// longest pause
	MaxDelay time.Duration `key:"max_delay" default:"1s" min:"1ms" max:"10m"`
}

// Health says how often the runner looks at the database, and what it takes for a sign of trouble.
type Health struct {
	// how often it looks; each look opens a connection beside the pool and closes it again
	Interval time.Duration `key:"interval" default:"10s" min:"1s" max:"1h"`
	// limit of one look, also of a job of kind health
	Timeout time.Duration `key:"timeout" default:"5s" min:"100ms" max:"1m"`
	// a connection or a trivial query that takes longer is degraded
	Slow time.Duration `key:"slow" default:"1s" min:"1ms" max:"1m"`
	// this share of pool.max in use, percent, is degraded while calls wait longer than pool_wait; 0: never
	PoolSaturation int `key:"pool_saturation" default:"100" min:"0" max:"100"`
	// a wait for a connection that counts as saturation; a pool that is full of work is not degraded by itself
	PoolWait time.Duration `key:"pool_wait" default:"30s" min:"1ms" max:"24h"`
	// whether migrations that are pending are degraded
	PendingMigrations string `key:"pending_migrations" default:"degraded" oneof:"degraded|ignore"`
}

// NewDatabase returns a database with these defaults, of an engine and reached by a connection string.
func (d *Defaults) NewDatabase(engine string, connection Secret) *Database {
	return &Database{Type: engine, ConnectionString: connection, Defaults: d.clone()}
}

func (d *Defaults) clone() Defaults {
	c := *d
	c.Kinds = slices.Clone(d.Kinds)
	c.Effects = slices.Clone(d.Effects)
	c.DeadLetters = slices.Clone(d.DeadLetters)
	c.Settings = maps.Clone(d.Settings)
	c.ByKind = make(map[string]*KindLimits, len(d.ByKind))
	for kind, limits := range d.ByKind {
		l := *limits
		c.ByKind[kind] = &l
	}
	return c
}

// HasLedger reports whether jobs may have effects that need a ledger.
func (d *Defaults) HasLedger() bool { return d.Ledger.Mode != LedgerOff }

// Words of the keys that have a fixed set of them.
const (
	LedgerManage = "manage"
	LedgerVerify = "verify"
	LedgerOff    = "off"

	TopologyManage = "manage"
	TopologyVerify = "verify"

	PoolerNone        = "none"
	PoolerTransaction = "transaction"

	PendingDegraded = "degraded"
	PendingIgnore   = "ignore"
)

// SustainedRate is how many results a second one database can have for ever: each is kept for the minimum age,
// and the limits must hold them. meanBytes is the mean size of a stored result in bytes; 0 looks at the count alone.
func (r *ResultsStream) SustainedRate(meanBytes int64) float64 {
	count := float64(r.MaxCount)
	if meanBytes > 0 {
		count = min(count, float64(r.MaxBytes)/float64(meanBytes))
	}
	return count / r.MinAge.Seconds()
}
