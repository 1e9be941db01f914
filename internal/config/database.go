package config

import (
	"maps"
	"slices"
	"time"
)

// Database configures one target database. Its key is its name; missing keys use the defaults.
type Database struct {
	// the database's engine
	Type string `key:"type" format:"engine"`
	// connection string, in the syntax of the engine
	ConnectionString Secret `key:"connection_string"`
	// connection string that bypasses a pooler in transaction mode; migrations and at_most_once jobs need their own
	// session
	DirectConnectionString Secret `key:"direct_connection_string"`
	// apply pending migrations before the first job runs
	MigrateOnStart bool       `key:"migrate_on_start" default:"false"`
	Migrations     Migrations `key:"migrations"`
	Outbox         Outbox     `key:"outbox"`
	Catalog        Catalog    `key:"catalog"`

	Defaults `key:",inline"`

	Queues map[string]*Queue `key:"queues" each:"queue"`
}

// Queue configures a queue of the database: another line into it, with slots of its own. At most 16 queues, with names of 1 to
// 64 characters of a-z 0-9 _; an empty section, such as bulk: {}, has the defaults.
type Queue struct {
	// jobs take effect one at a time, in the order of their stream; one that failed keeps the others waiting until an operator
	// resumes the queue. Without slots and fleet_slots, which are 1 then
	Ordered bool `key:"ordered" default:"false"`
	// jobs of the queue that one runner has in flight; below pool.max
	Slots int `key:"slots" auto:"2, at most fleet_slots" min:"1" max:"10000"`
	// jobs of the queue that the whole fleet has in flight
	FleetSlots int `key:"fleet_slots" auto:"topology.max_ack_pending" min:"1" max:"1000000"`
}

// Migrations configures the schema migrations of the database.
type Migrations struct {
	// folder of the migration files
	Folder string `key:"folder" auto:"migrations/<database>"`
	// connection string with a login that may change the schema; empty: direct_connection_string, or
	// connection_string
	ConnectionString Secret `key:"connection_string"`
	// allow files whose version is below the database's; a job or command may allow this for itself
	OutOfOrder bool `key:"out_of_order" default:"false"`
}

// Outbox configures the relay of the rows of dbrunner.outbox (SQLite: dbrunner_outbox), which callers insert in their own
// transactions.
type Outbox struct {
	// connection string with a login of its own, which may read, update and delete rows of the table; jobs should not have
	// that login. SQLite, which has no logins: connection_string
	ConnectionString Secret `key:"connection_string"`
	// subjects behind the namespace that rows may name, such as jobs.billing.transaction; empty: no relay
	Targets []string `key:"targets"`
}

// Catalog configures the named statements that jobs of kind call run.
type Catalog struct {
	// folder with a file <name>.yaml for each statement, read at startup; required if kinds has call
	Folder string `key:"folder"`
}

// Defaults configures the keys that databases may share.
type Defaults struct {
	// allowed kinds of jobs; empty: all but call, dry_run and approve, which have to be named. call also allows dry runs and approvals of named statements
	Kinds []string `key:"kinds" format:"kind"`
	// allowed effects; empty: all that the ledger allows
	Effects []string `key:"effects" format:"effect"`
	// outcomes for which a dead letter is stored; [] for none
	DeadLetters []string `key:"dead_letters" auto:"all" format:"reason"`

	// slots of this database in the runner; above 4 × pool.max, only while jobs finish fast. The default is lower if
	// worker.max_slots or topology.max_ack_pending require it
	Slots int `key:"slots" auto:"16 × pool.max" min:"1" max:"100000"`
	// transaction: the server is behind a pooler in transaction mode (PgBouncer)
	Pooler string `key:"pooler" default:"none" oneof:"none|transaction"`

	// default time limit of one attempt of a job
	Timeout time.Duration `key:"timeout" default:"30s" min:"1ms" max:"24h"`
	// maximum timeout that a job may set
	MaxTimeout time.Duration `key:"max_timeout" default:"15m" min:"1ms" max:"24h"`

	// maximum wait for one lock in the database
	LockTimeout time.Duration `key:"lock_timeout" default:"10s" min:"1ms" max:"24h"`
	// the server terminates transactions that are idle for this long
	IdleInTransaction time.Duration `key:"idle_in_transaction" default:"1m" min:"1s" max:"24h"`
	// maximum number of rows in one result
	MaxRows int64 `key:"max_rows" default:"100000" min:"1"`
	// maximum size of the encoded rows in one result; a result with its envelope must fit in the NATS server's max_payload
	MaxBytes Size `key:"max_bytes" default:"768KiB" min:"1KiB" max:"64MiB"`
	// maximum number of rows that one transaction writes; a job may set a lower one. Needs kinds without statement
	MaxAffected int64 `key:"max_affected" auto:"no limit" min:"1"`
	// transactions with commit: shared may have one COMMIT together, up to 16 of them; PostgreSQL and SQLite only
	SharedCommits bool `key:"shared_commits" default:"false"`

	// engine-specific settings
	Settings map[string]string `key:"settings"`

	Output Output                 `key:"output"`
	Pool   Pool                   `key:"pool"`
	ByKind map[string]*KindLimits `key:"by_kind" each:"kind"`
	Ledger Ledger                 `key:"ledger"`
	Retry  Retry                  `key:"retry"`
	Health Health                 `key:"health"`
}

// Output limits the rows that do not fit in their result and are offloaded to the object store.
type Output struct {
	// enables offloading; without it, a job fails if its rows do not fit in its result
	Enabled bool `key:"enabled" default:"true"`
	// maximum number of offloaded rows of one job
	MaxRows int64 `key:"max_rows" default:"100000000" min:"1"`
	// maximum size of the offloaded rows of one job, as JSON
	MaxBytes Size `key:"max_bytes" default:"2GiB" min:"1KiB"`
}

// Pool limits a database's connections.
type Pool struct {
	// connections kept open; if not set, at most pool.max
	Min int `key:"min" default:"5" min:"0" max:"10000"`
	// maximum number of open connections
	Max int `key:"max" default:"15" min:"1" max:"10000"`
	// age at which a connection is replaced
	MaxLifetime time.Duration `key:"max_lifetime" default:"1h" min:"1s"`
	// random time of up to this much added to max_lifetime, so that connections are not all replaced at the same time
	LifetimeJitter time.Duration `key:"lifetime_jitter" default:"6m" min:"0s"`
	// idle time after which a connection above pool.min is closed
	MaxIdleTime time.Duration `key:"max_idle_time" default:"30m" min:"1s"`
	// timeout of one connection attempt
	ConnectTimeout time.Duration `key:"connect_timeout" default:"10s" min:"100ms" max:"5m"`
	// a connection idle for longer is pinged before it gets a job
	PingAfterIdle time.Duration `key:"ping_after_idle" default:"30s" min:"1s"`
}

// KindLimits override a database's time limits for one kind; zero: the database's.
type KindLimits struct {
	// default time limit of one attempt of a job of this kind; for kind migration, 1h unless set here
	Timeout time.Duration `key:"timeout" auto:"the database's" min:"1ms" max:"24h"`
	// maximum timeout that a job of this kind may set; for kind migration, 24h unless set here
	MaxTimeout time.Duration `key:"max_timeout" auto:"the database's" min:"1ms" max:"24h"`
}

// Ledger configures the ledger, the table that makes jobs take effect only once.
type Ledger struct {
	// manage creates the table if it is missing; verify requires it; off rejects exactly_once and at_most_once
	Mode string `key:"mode" default:"manage" oneof:"manage|verify|off"`
	// how long a row is kept; a job id must not be reused within this time
	Retention time.Duration `key:"retention" default:"48h" min:"1s"`
	// how often old rows are deleted
	SweepInterval time.Duration `key:"sweep_interval" default:"1m" min:"1s" max:"24h"`
}

// Retry limits the retries after transient failures (deadlock, serialization failure) within one delivery.
type Retry struct {
	// maximum number of attempts, including the first one
	Attempts int `key:"attempts" default:"5" min:"1" max:"100"`
	// delay before the second attempt; doubles each time, with jitter
	Delay time.Duration `key:"delay" default:"20ms" min:"1ms" max:"1m"`
	// maximum delay
	MaxDelay time.Duration `key:"max_delay" default:"1s" min:"1ms" max:"10m"`
}

// Health configures the health checks of the database and their thresholds.
type Health struct {
	// interval between health checks; each opens and closes a connection outside the pool
	Interval time.Duration `key:"interval" default:"10s" min:"1s" max:"1h"`
	// timeout of one health check, including jobs of kind health
	Timeout time.Duration `key:"timeout" default:"5s" min:"100ms" max:"1m"`
	// a database is degraded if connecting or a trivial query takes longer
	Slow time.Duration `key:"slow" default:"1s" min:"1ms" max:"1m"`
	// a database is degraded if this percentage of pool.max is in use while calls wait longer than pool_wait; 0: never
	PoolSaturation int `key:"pool_saturation" default:"100" min:"0" max:"100"`
	// a wait for a connection above which the pool counts as saturated; a fully used pool alone is not degraded
	PoolWait time.Duration `key:"pool_wait" default:"30s" min:"1ms" max:"24h"`
	// whether a database with pending migrations is degraded
	PendingMigrations string `key:"pending_migrations" default:"degraded" oneof:"degraded|ignore"`
}

// NewDatabase returns a database with these defaults, an engine and a connection string.
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

// SustainedRate returns the number of results per second that one database can sustain indefinitely: each is kept for
// the minimum age, within the limits. meanBytes is the mean size of a stored result; 0 considers only the count.
func (r *ResultsStream) SustainedRate(meanBytes int64) float64 {
	count := float64(r.MaxCount)
	if meanBytes > 0 {
		count = min(count, float64(r.MaxBytes)/float64(meanBytes))
	}
	return count / r.MinAge.Seconds()
}
