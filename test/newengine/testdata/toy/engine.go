// Package toy is an engine in memory: a map of texts.
package toy

import (
	"context"
	"fmt"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/report"
)

// Database is one map.
type Database struct {
	opts    db.Options
	dialect *dialect.Dialect
	pool    *pool
	buffers db.Buffers
	store   *store
}

var (
	_ db.Database  = (*Database)(nil)
	_ db.Diagnoser = (*Database)(nil)
)

// Open makes an empty map.
func Open(opts db.Options) (db.Database, error) {
	if err := check(&opts); err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Name, err)
	}
	return &Database{opts: opts, dialect: Dialect(), pool: newPool(), store: newStore()}, nil
}

// Engine returns "toy".
func (d *Database) Engine() string { return "toy" }

// Dialect is how its text is read.
func (d *Database) Dialect() *dialect.Dialect { return d.dialect }

// Now is the clock of this machine.
func (d *Database) Now(context.Context) (time.Time, error) { return time.Now().UTC(), nil }

// Stats describes the pool.
func (d *Database) Stats() report.Pool { return d.pool.stats() }

// Close does nothing: a map needs no end.
func (d *Database) Close() error { return nil }
