package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sharing"
	"dbrunner/internal/report"
)

// Database is one SQLite file. It is safe for concurrent use.
type Database struct {
	opts     db.Options
	settings settings
	dialect  *dialect.Dialect
	writers  *pool // of one connection
	readers  *pool
	shared   *sharing.Queue // transactions that may share a commit; nil: none may
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
	d.writers = newPool(opts.Name, 1, func(ctx context.Context) (*session, error) { return openConn(ctx, &d.settings, false) })
	d.readers = newPool(opts.Name, s.readers, func(ctx context.Context) (*session, error) { return openConn(ctx, &d.settings, true) })
	if opts.SharedCommits {
		d.shared = sharing.NewQueue(1, sharedRunner{d})
	}
	return d, nil
}

// Engine is the engine's public name.
func (d *Database) Engine() string { return "sqlite" }

// Dialect reports how SQL text and parameters are read.
func (d *Database) Dialect() *dialect.Dialect { return d.dialect }

// Now is the clock of this machine: the file has no server.
func (d *Database) Now(context.Context) (time.Time, error) { return time.Now().UTC(), nil }

// Stats describes the pool at this moment: the writer and the readers together.
func (d *Database) Stats() report.Pool {
	var s report.Pool
	d.writers.add(&s)
	d.readers.add(&s)
	waiting, longest := d.shared.Longest()
	s.Waiting, s.LongestWait = s.Waiting+waiting, max(s.LongestWait, longest)
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
func (d *Database) using(ctx context.Context, p *pool, work func(*session) *db.Error) error {
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
