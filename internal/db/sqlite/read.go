package sqlite

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

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
func (c *session) read(ctx context.Context, stmt *dialect.Compiled, opts db.RowOptions) (set db.ResultSet, failure *db.Error) {
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
