package sqlite

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

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
func (d *Database) verify(c *session) *db.Error {
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
func (d *Database) writable(c *session) *db.Error {
	if d.opts.Ledger == db.LedgerOff || !c.h.readOnly() {
		return nil
	}
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
		"the database file cannot be written: check the permissions of the file and its folder")
}

// create creates the ledger, where that is our task; that the connection could be opened for writing has
// created the file and set it to WAL mode.
func (d *Database) create(c *session) *db.Error {
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
