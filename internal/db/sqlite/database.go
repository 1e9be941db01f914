package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Database is one SQLite file. It is safe for concurrent use.
type Database struct {
	opts     db.Options
	settings settings
	dialect  *dialect.Dialect
	writers  *pool // of one connection
	readers  *pool
	closing  sync.Once
}

var _ db.Database = (*Database)(nil)

// Open checks the options; it does not touch the file.
func Open(opts db.Options) (db.Database, error) {
	s, err := parseOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", opts.Name, err)
	}
	d := &Database{opts: opts, settings: s, dialect: Dialect()}
	d.writers = newPool(opts.Name, 1, func(ctx context.Context) (*conn, error) { return openConn(ctx, &d.settings, false) })
	d.readers = newPool(opts.Name, s.readers, func(ctx context.Context) (*conn, error) { return openConn(ctx, &d.settings, true) })
	return d, nil
}

// Engine is the engine's public name.
func (d *Database) Engine() string { return "sqlite" }

// Dialect says how SQL text and parameters are read.
func (d *Database) Dialect() *dialect.Dialect { return d.dialect }

// Now is the clock of this machine: the file has no server.
func (d *Database) Now(context.Context) (time.Time, error) { return time.Now().UTC(), nil }

// Stats describes the pool at this moment: the writer and the readers together.
func (d *Database) Stats() db.PoolStats {
	var s db.PoolStats
	d.writers.add(&s)
	d.readers.add(&s)
	return s
}

// Close waits for what is under way and closes all connections.
func (d *Database) Close() error {
	d.closing.Do(func() {
		d.readers.close()
		d.writers.close()
	})
	return nil
}

// using lends a connection of a pool to work of the engine's own, which has no time limit but its context.
func (d *Database) using(ctx context.Context, p *pool, work func(*conn) *db.Error) error {
	c, failure := p.acquire(ctx)
	if failure != nil {
		return failure
	}
	defer p.release(c)
	defer c.arm(ctx, 0)()
	defer c.end()
	if failure := work(c); failure != nil {
		return failure
	}
	return nil
}

// Read runs one statement on a connection that cannot write, in a transaction that is rolled back.
func (d *Database) Read(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions,
) (db.ResultSet, error) {
	c, failure := d.readers.acquire(ctx)
	if failure != nil {
		return db.ResultSet{}, failure
	}
	defer d.readers.release(c)
	if call.Begin != nil {
		if err := call.Begin(); err != nil {
			return db.ResultSet{}, err
		}
	}
	defer c.arm(ctx, call.Timeout)()
	defer c.end()
	set, failure := c.read(ctx, stmt, opts)
	if failure != nil {
		return db.ResultSet{}, failure
	}
	return set, nil
}

// read runs the statement again while another process keeps the file locked (it recovers the log after a
// crash); nothing has been read then.
func (c *conn) read(ctx context.Context, stmt *dialect.Compiled, opts db.RowOptions) (set db.ResultSet, failure *db.Error) {
	if failure := c.begin(); failure != nil {
		return set, failure
	}
	_ = c.retryBusy(func() error {
		c.rows.Reset(opts)
		c.maxBytes = opts.LargestRow()
		if set, failure = c.execute(ctx, stmt); failure != nil {
			return failure.At(0)
		}
		return nil
	})
	return set, failure
}

// Probe opens the file, which creates it where that is allowed, and looks after the ledger. It waits for the
// writer, which may be in a long transaction, only when there has been none yet or the ledger is missing.
func (d *Database) Probe(ctx context.Context) error {
	err := d.using(ctx, d.readers, d.verify)
	switch {
	case ctx.Err() != nil:
		return err
	case err == nil && d.writers.acquires.Load() > 0:
		return nil
	case err == nil:
		return d.using(ctx, d.writers, d.writable)
	}
	if err := d.using(ctx, d.writers, d.create); err != nil {
		return err
	}
	return d.using(ctx, d.readers, d.verify)
}

// verify looks whether jobs find what they need.
func (d *Database) verify(c *conn) *db.Error {
	err := c.retryBusy(func() error {
		if d.opts.Ledger == db.LedgerOff {
			_, err := c.pragma("PRAGMA schema_version")
			return err
		}
		return c.run(checkLedger)
	})
	if err == nil {
		return nil
	}
	return d.ledgerFailed(c, err)
}

// writable looks whether the file may be written: one that may not will do for reading, without a ledger.
func (d *Database) writable(c *conn) *db.Error {
	if d.opts.Ledger == db.LedgerOff || !c.h.readOnly() {
		return nil
	}
	return db.Errorf(db.ClassUnavailable, db.CodeUnavailable,
		"the database file cannot be written: check the permissions of the file and its folder")
}

// create creates the ledger, where that is our task; that the connection could be opened for writing has
// created the file and set it to WAL mode.
func (d *Database) create(c *conn) *db.Error {
	if failure := d.writable(c); failure != nil || d.opts.Ledger != db.LedgerManage {
		return failure
	}
	if failure := c.begin(); failure != nil {
		return failure
	}
	for _, sql := range []string{ledgerDDL, ledgerIndexDDL} {
		if _, err := c.pragma(sql); err != nil {
			return c.failed(err, opening)
		}
	}
	return c.commit()
}

// opened finds the public error in one that came while a connection was opened.
func opened(err error) *db.Error {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return e
	}
	e := classify(err, opening)
	if e.Code == db.CodeCanceled {
		e.Message = "the database file could not be opened within the lock time limit"
	}
	return e
}
