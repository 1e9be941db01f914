package sqlite

import (
	"context"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/internal/db"
)

// Check opens the file beside the pool and reads its first page. It is opened for writing, which writes nothing and
// reports whether it could be: a file that may only be read is opened for that.
func (d *Database) Check(ctx context.Context) (db.CheckResult, error) {
	v := db.CheckResult{Version: sqlite3.SQLITE_VERSION}
	if ctx.Err() != nil {
		return v, notOpened(ctx, ctx.Err())
	}
	started := time.Now()
	own := d.settings
	own.create = false // a check makes nothing
	c, err := openFile(ctx, &own, sqlite3.SQLITE_OPEN_READWRITE, true)
	if err != nil {
		return v, notOpened(ctx, err)
	}
	defer c.close()
	defer c.arm(ctx, 0)()
	// The last connection that is closed would move the log into the file.
	if err := c.h.configure(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true); err != nil {
		return v, c.failed(err, opening)
	}
	v.Connect = time.Since(started)
	started = time.Now()
	err = c.retryBusy(func() error {
		_, err := c.pragma("PRAGMA schema_version")
		return err
	})
	if err != nil {
		return v, c.failed(err, opening)
	}
	v.Query = time.Since(started)
	if c.h.readOnly() {
		v.ReadOnly = "the database file cannot be written: check the permissions of the file and its folder"
	}
	return v, nil
}
