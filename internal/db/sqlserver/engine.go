package sqlserver

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/puddle/v2"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// Database is one configured SQL Server database.
type Database struct {
	opts           db.Options
	settings       settings
	dialect        *dialect.Dialect
	connectors     *connectors
	connectTimeout time.Duration
	pingAfter      time.Duration
	texts          texts
	place          place

	pool      *puddle.Pool[*session]
	waits     engine.Waits
	acquires  atomic.Int64
	canceled  atomic.Int64
	waited    atomic.Int64 // nanoseconds
	keeping   sync.WaitGroup
	stop      chan struct{} // closed: the pool is kept no longer
	closing   sync.Once
	noTransID atomic.Bool // the server does not know CURRENT_TRANSACTION_ID()
	rights    rights
}

var _ db.Database = (*Database)(nil)

// Open checks the options and makes the pool. It does not wait for the server: connections are made in the background
// and on demand, and what a server refuses shows in Probe. The package comment lists the settings.
func Open(opts db.Options) (db.Database, error) {
	own, err := parseSettings(opts.Settings)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Name, err)
	}
	if opts.TransactionPool {
		return nil, fmt.Errorf("open %s: pooler: transaction is for PostgreSQL; SQL Server has none", opts.Name)
	}
	if opts.SharedCommits {
		return nil, fmt.Errorf("open %s: shared_commits is for PostgreSQL and SQLite: on SQL Server, a statement that fails takes the whole transaction with it "+
			"(XACT_ABORT), and so all jobs that share the commit; remove the key", opts.Name)
	}
	connectors, err := newConnectors(&opts, own)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Name, err)
	}
	d := &Database{
		opts: opts, settings: own, dialect: Dialect(), connectors: connectors,
		connectTimeout: connectTimeout(&opts),
		pingAfter:      either(opts.Pool.PingAfterIdle, defaultPingAfterIdle),
		texts:          newTexts(&opts.Limits),
		place:          placeOf(opts.ConnectionString),
		stop:           make(chan struct{}),
	}
	d.opts.ConnectionString = "" // the connector has it; nothing else needs it
	if err := d.makePool(); err != nil {
		return nil, engine.PoolNotMade(opts.Name)
	}
	return d, nil
}

// Engine returns "sqlserver".
func (d *Database) Engine() string { return "sqlserver" }

// Dialect reports how SQL text is read.
func (d *Database) Dialect() *dialect.Dialect { return d.dialect }

// Close waits for the calls under way and for the end of every session.
func (d *Database) Close() error {
	d.closing.Do(func() { close(d.stop) })
	d.keeping.Wait()
	d.pool.Close()
	return nil
}
