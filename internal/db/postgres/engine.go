package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/sharing"
	"dbrunner/internal/report"
)

// Database is one configured PostgreSQL database.
type Database struct {
	opts           db.Options
	settings       settings
	dialect        *dialect.Dialect
	pool           *pgxpool.Pool
	pingAfter      time.Duration
	connectTimeout time.Duration
	local          string    // what a transaction starts with behind a transaction pooler
	ends, standard *cleanups // standard: of sessions whose IntervalStyle stays

	noCheckInterval atomic.Bool // the server does not know the parameter

	waits    engine.Waits
	acquires atomic.Int64
	canceled atomic.Int64
	waited   atomic.Int64 // nanoseconds

	buffers  db.Buffers // of large results
	reads    readQueue
	readings sync.Pool      // of *reading
	shared   *sharing.Queue // transactions that may share a commit; nil: none may

	destroying sync.WaitGroup // sessions that are being ended
}

var _ db.Database = (*Database)(nil)

// Open checks the options and makes the pool. It does not wait for the server: connections are made in the
// background and on demand, and what a server refuses shows in Probe. The settings of this engine are
// label_sessions and show_raised_messages, each true or false (the default).
func Open(opts db.Options) (db.Database, error) {
	own, err := parseSettings(opts.Settings)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Name, err)
	}
	config, err := poolConfig(&opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Name, err)
	}
	d := &Database{
		opts: opts, settings: own,
		dialect:   Dialect(),
		ends:      newEnds(opts.TransactionPool, setStyles),
		standard:  newEnds(opts.TransactionPool, setDateStyle),
		pingAfter: cmp.Or(opts.Pool.PingAfterIdle, defaultPingAfterIdle),
	}
	if opts.TransactionPool {
		d.local = localSettings(&opts)
	}
	d.opts.ConnectionString = "" // the pool has it; nothing else needs it
	d.connectTimeout = config.ConnConfig.ConnectTimeout
	d.hook(config)
	d.reads.most = int(config.MaxConns)
	if opts.SharedCommits && !opts.TransactionPool {
		d.shared = sharing.NewQueue(d.reads.most, sharedRunner{d})
	}
	d.readings.New = func() any { return &pendingRead{readEvent: make(chan readEvent, 1)} }
	d.pool, err = pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, engine.PoolNotMade(opts.Name)
	}
	return d, nil
}

// Engine returns "postgres".
func (d *Database) Engine() string { return "postgres" }

// Dialect reports how SQL text is read.
func (d *Database) Dialect() *dialect.Dialect { return d.dialect }

// Stats describes the pool at this moment.
func (d *Database) Stats() report.Pool {
	s := d.pool.Stat()
	waiting, longest := d.waits.Longest()
	reads, first := d.reads.longest()
	shared, since := d.shared.Longest()
	return report.Pool{
		Max: int(s.MaxConns()), Total: int(s.TotalConns()), Idle: int(s.IdleConns()), InUse: int(s.AcquiredConns()),
		Waiting:          waiting + reads + shared,
		Acquires:         d.acquires.Load(),
		CanceledAcquires: d.canceled.Load(),
		AcquireWait:      time.Duration(d.waited.Load()),
		LongestWait:      max(longest, first, since),
	}
}

// Close waits for the calls under way and for the end of every session.
func (d *Database) Close() error {
	d.pool.Close()
	d.destroying.Wait()
	return nil
}

// errClosed is the cause of what a closed pool refuses.
var errClosed = errors.New("postgres: closed")
