package sqlite

import (
	"context"
	"errors"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

const ledgerTable = "dbrunner_ledger"

// Statements of ours name the schema: without it, an object of the same name in the schema temp would stand before
// the table.

// The ledger's table. Times are nanoseconds since 1970, UTC. The answer comes last, so that the other columns
// are read without it.
const (
	ledgerDDL = `CREATE TABLE IF NOT EXISTS main.dbrunner_ledger (
    namespace     TEXT    NOT NULL,
    database_name TEXT    NOT NULL,
    job_id        TEXT    NOT NULL,
    request_hash  BLOB,
    status        TEXT    NOT NULL,
    sequence      INTEGER NOT NULL,
    message_time  INTEGER NOT NULL,
    runner        TEXT    NOT NULL,
    recorded_at   INTEGER NOT NULL,
    answer        BLOB,
    PRIMARY KEY (namespace, database_name, job_id)
)`
	ledgerIndexDDL = `CREATE INDEX IF NOT EXISTS main.dbrunner_ledger_recorded
    ON dbrunner_ledger (namespace, database_name, recorded_at)`

	// insertEntrySQL is a plain INSERT: its unique key is the fence.
	insertEntrySQL = `INSERT INTO main.dbrunner_ledger
		(namespace, database_name, job_id, request_hash, status, sequence, message_time, runner, recorded_at, answer)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)`
	// concludeEntrySQL writes an end over a row that has none; its arguments are those of insertEntrySQL.
	concludeEntrySQL = `UPDATE main.dbrunner_ledger
		SET request_hash = ?4, status = ?5, runner = ?8, recorded_at = ?9, answer = ?10
		WHERE namespace = ?1 AND database_name = ?2 AND job_id = ?3 AND status = 'started' AND sequence = ?6 AND message_time = ?7`
	// supersedeEntrySQL writes over a row whose job's id is free again; its first arguments are those of insertEntrySQL.
	supersedeEntrySQL = `UPDATE main.dbrunner_ledger
		SET request_hash = ?4, status = ?5, sequence = ?6, message_time = ?7, runner = ?8, recorded_at = ?9, answer = ?10
		WHERE namespace = ?1 AND database_name = ?2 AND job_id = ?3 AND recorded_at < ?11`
	selectEntrySQL = `SELECT request_hash, status, sequence, message_time, runner, recorded_at, answer
		FROM main.dbrunner_ledger WHERE namespace = ?1 AND database_name = ?2 AND job_id = ?3`
	// sweepEntriesSQL names rows by their key and looks at their age again: a ledger that was made by hand may have no
	// rowid, or a column of that name.
	sweepEntriesSQL = `DELETE FROM main.dbrunner_ledger WHERE namespace = ?1 AND database_name = ?2 AND recorded_at < ?3
		AND job_id IN (SELECT job_id FROM main.dbrunner_ledger
			WHERE namespace = ?1 AND database_name = ?2 AND recorded_at < ?3 ORDER BY recorded_at LIMIT ?4)`
	checkLedgerSQL = `SELECT namespace, database_name, job_id, request_hash, status, sequence, message_time, runner,
		recorded_at, answer FROM main.dbrunner_ledger LIMIT 0`
)

// DDL is what a DBA runs to create the ledger.
func DDL() string { return ledgerDDL + ";\n\n" + ledgerIndexDDL + ";\n" }

// bindKey binds namespace, database and job id as the first three arguments.
func (d *Database) bindKey(s *stmt, jobID string) error {
	return errors.Join(s.bindText(1, d.opts.Namespace), s.bindText(2, d.opts.Name), s.bindText(3, jobID))
}

// insert runs one of the statements that write a row, and reports how many it wrote.
func (d *Database) insert(c *session, which ours, e *db.Entry, now time.Time) (int64, error) {
	if !e.Supersedes.IsZero() && (which == insertEntry || which == recordEntry) {
		if n, err := d.insert(c, supersedeEntry, e, now); n > 0 || err != nil {
			return n, err
		}
	}
	s, err := c.statement(which)
	if err != nil {
		return 0, err
	}
	defer s.reset()
	var hash, answer, before error
	if which == supersedeEntry {
		before = s.bindInt(11, e.Supersedes.UnixNano())
	}
	if e.RequestHash == nil {
		hash = s.bindNull(4)
	} else {
		hash = s.bindBlob(4, e.RequestHash)
	}
	if e.Answer == nil {
		answer = s.bindNull(10)
	} else {
		answer = s.bindBlob(10, e.Answer)
	}
	if err := errors.Join(d.bindKey(s, e.JobID), hash, s.bindText(5, e.Status), s.bindInt(6, int64(e.Sequence)),
		s.bindInt(7, e.Timestamp.UnixNano()), s.bindText(8, e.Runner), s.bindInt(9, now.UnixNano()), answer, before); err != nil {
		return 0, err
	}
	if _, err := s.step(); err != nil {
		return 0, err
	}
	return c.h.changes(), nil
}

// fence inserts the row of the open transaction. A key that is there already is distinguished from the job's own
// unique violations by being this statement's.
func (d *Database) fence(c *session, e *db.Entry) *db.Error {
	n, err := d.insert(c, insertEntry, e, time.Now())
	switch {
	case err == nil && n == 1:
		return nil
	case err == nil:
		return ledgerTookNothing()
	}
	failure := d.ledgerFailed(c, err)
	if failure.Code == contract.CodeUnique {
		failure.Class, failure.Message = db.ClassAlreadyRecorded, engine.RecordedMessage
	}
	return failure
}

// ledgerTookNothing is the error of an INSERT that succeeded without a row: without one there is no fence.
func ledgerTookNothing() *db.Error {
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
		"the ledger (table %s) accepts no rows: remove the trigger or view that prevents it", ledgerTable)
}

// ledgerFailed is the error of a statement on the ledger. A ledger that is not there is the database's matter,
// not the job's.
func (d *Database) ledgerFailed(c *session, err error) *db.Error {
	f, ok := errors.AsType[*fault](err)
	if ok && f.primary() == sqlite3.SQLITE_ERROR && c.stopped() == nil {
		return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
			"the ledger (table %s) is missing or wrong: create it with what `runner ledger ddl` prints",
			ledgerTable).Because(err)
	}
	return c.failed(err, running)
}

// find reads a row; nil if there is none.
func (d *Database) find(c *session, jobID string) (*db.Entry, error) {
	s, err := c.statement(selectEntry)
	if err != nil {
		return nil, err
	}
	defer s.reset()
	if err := d.bindKey(s, jobID); err != nil {
		return nil, err
	}
	row, err := s.step()
	if err != nil || !row {
		return nil, err
	}
	e := &db.Entry{
		JobID:      jobID,
		Status:     string(s.columnText(1)),
		Sequence:   uint64(s.columnInt(2)),
		Timestamp:  time.Unix(0, s.columnInt(3)).UTC(),
		Runner:     string(s.columnText(4)),
		RecordedAt: time.Unix(0, s.columnInt(5)).UTC(),
	}
	e.RequestHash = append(e.RequestHash, s.columnBlob(0)...)
	e.Answer = append(e.Answer, s.columnBlob(6)...)
	return e, nil
}

// Lookup reads a ledger row; nil if there is none. It does not wait for transactions under way.
func (d *Database) Lookup(ctx context.Context, jobID string) (*db.Entry, error) {
	var found *db.Entry
	err := d.using(ctx, d.readers, func(c *session) *db.Error {
		err := c.retryBusy(func() (err error) {
			found, err = d.find(c, jobID)
			return err
		})
		if err != nil {
			return d.ledgerFailed(c, err)
		}
		return nil
	})
	return found, err
}

// Record inserts a ledger row in a transaction of its own, unless its key is taken: then it returns the row
// that is there, and false.
func (d *Database) Record(ctx context.Context, entry *db.Entry) (*db.Entry, bool, error) {
	var recorded *db.Entry
	var inserted bool
	err := d.using(ctx, d.writers, func(c *session) *db.Error {
		if failure := c.begin(); failure != nil {
			return failure
		}
		now := time.Now()
		n, err := d.insert(c, recordEntry, entry, now)
		if err == nil && n == 0 {
			recorded, err = d.find(c, entry.JobID)
		}
		if err != nil {
			return d.ledgerFailed(c, err)
		}
		switch {
		case n == 0 && recorded == nil:
			return ledgerTookNothing()
		case n == 0:
			return nil
		}
		copied := *entry
		copied.RecordedAt = time.Unix(0, now.UnixNano()).UTC()
		recorded, inserted = &copied, true
		return c.commit()
	})
	if err != nil {
		return nil, false, err
	}
	return recorded, inserted, nil
}

// Sweep deletes at most limit rows that were recorded earlier than before, the oldest first. Foreign keys are off
// meanwhile: one that was made into the ledger must neither keep its rows nor delete others with them.
func (d *Database) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	var swept int
	err := d.using(ctx, d.writers, func(c *session) (failure *db.Error) {
		if err := c.h.configure(sqlite3.SQLITE_DBCONFIG_ENABLE_FKEY, false); err != nil {
			return c.failed(err, opening)
		}
		defer func() {
			if err := c.h.configure(sqlite3.SQLITE_DBCONFIG_ENABLE_FKEY, true); err != nil {
				c.spoilt = true
			}
		}()
		if failure := c.begin(); failure != nil {
			return failure
		}
		n, err := d.sweep(c, before, limit)
		if err != nil {
			return d.ledgerFailed(c, err)
		}
		swept = int(n)
		return c.commit()
	})
	if err != nil {
		return 0, err
	}
	return swept, nil
}

func (d *Database) sweep(c *session, before time.Time, limit int) (int64, error) {
	s, err := c.statement(sweepEntries)
	if err != nil {
		return 0, err
	}
	defer s.reset()
	err = errors.Join(s.bindText(1, d.opts.Namespace), s.bindText(2, d.opts.Name),
		s.bindInt(3, before.UnixNano()), s.bindInt(4, int64(limit)))
	if err != nil {
		return 0, err
	}
	if _, err := s.step(); err != nil {
		return 0, err
	}
	return c.h.changes(), nil
}
