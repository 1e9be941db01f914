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

// busyWait is how long SQLite itself waits for a lock, milliseconds: short, so that a call that is no longer
// wanted stops waiting soon. The whole of a wait is bounded in patiently.
const busyWait = 50

// maxIdleRows is how large a result may be, bytes, for an idle connection to keep the rest of its buffer.
const maxIdleRows = 64 << 10

// maxLength bounds one value, bytes. SQLite's own limit is a gigabyte: SELECT zeroblob(1000000000) would take
// that much memory before any cap on results can see it.
const maxLength = 64 << 20

// ours are the engine's own statements. They are kept apart from those of jobs, which the authorizer has seen.
type ours int

const (
	beginReading ours = iota
	beginWriting
	commit
	rollback
	insertEntry
	recordEntry
	concludeEntry
	supersedeEntry
	selectEntry
	sweepEntries
	checkLedger
	setSavepoint
	backToSavepoint
	releaseSavepoint
	oursCount
)

var ourSQL = [oursCount]string{
	beginReading:   "BEGIN",
	beginWriting:   "BEGIN IMMEDIATE",
	commit:         "COMMIT",
	rollback:       "ROLLBACK",
	insertEntry:    insertEntrySQL,
	recordEntry:    insertEntrySQL + " ON CONFLICT DO NOTHING",
	concludeEntry:  concludeEntrySQL,
	supersedeEntry: supersedeEntrySQL,
	selectEntry:    selectEntrySQL,
	sweepEntries:   sweepEntriesSQL,
	checkLedger:    checkLedgerSQL,

	// Jobs cannot name savepoints: the authorizer refuses each statement that does.
	setSavepoint:     "SAVEPOINT dbrunner_shared",
	backToSavepoint:  "ROLLBACK TO dbrunner_shared",
	releaseSavepoint: "RELEASE dbrunner_shared",
}

// session is one connection, with all that it keeps between calls. One call at a time uses it.
type session struct {
	h        *handle
	watch    *watch
	settings *settings
	reads    bool // opened read-only

	own   [oursCount]*stmt
	cache cache
	rows  engine.RowEncoder

	maxBytes int64 // of the rows of the call under way, 0 = no limit
	spoilt   bool  // to be closed instead of used again
	moved    bool  // its file is not where it was: neither are those of the pool's other connections
	vacuum   bool  // the statement is a VACUUM: it attaches a file of its own, and what it writes is what there was
	whole    bool  // the statement is not stopped by the caps on its rows: nothing would take it back
}

// pragma runs a PRAGMA of ours and returns its first value, if any.
func (c *session) pragma(sql string) (string, error) {
	s, _, err := c.h.prepare(sql, 0)
	if err != nil {
		return "", err
	}
	defer s.finalize()
	row, err := s.step()
	if !row || s.columns == 0 {
		return "", err
	}
	return string(s.columnText(0)), nil
}

// close ends the connection; what was open in it is rolled back.
func (c *session) close() {
	c.watch.disarm()
	for _, s := range c.own {
		if s != nil {
			s.finalize()
		}
	}
	for len(c.cache.bySQL) > 0 {
		c.cache.drop(c.cache.ring.newer)
	}
	c.h.close()
}

// arm has the call's statements stopped when its time is over or its context ends.
func (c *session) arm(ctx context.Context, timeout time.Duration) (stop func() bool) {
	return c.watch.arm(ctx, timeout)
}

// retryBusy repeats what fails because of another connection's lock, for as long as the lock time limit and
// the call allow.
func (c *session) retryBusy(try func() error) error {
	until := time.Now().Add(c.settings.lockTimeout)
	for {
		err := try()
		if !isBusy(err) || c.watch.interrupted() != notInterrupted || !time.Now().Before(until) {
			return err
		}
		time.Sleep(time.Millisecond) // SQLite has waited already, but for locks that it does not wait for
	}
}

// statement returns one of our own, compiled once.
func (c *session) statement(which ours) (*stmt, error) {
	if s := c.own[which]; s != nil {
		return s, nil
	}
	s, _, err := c.h.prepare(ourSQL[which], sqlite3.SQLITE_PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	c.own[which] = s
	return s, nil
}

// run runs one of our own statements that has neither arguments nor rows.
func (c *session) run(which ours) error {
	s, err := c.statement(which)
	if err != nil {
		return err
	}
	return s.run()
}

// begin opens a transaction. A writer takes the file's write lock here: a transaction that reads first and
// writes later could not get it any more once another one has written.
func (c *session) begin() *db.Error {
	which := beginWriting
	if c.reads {
		which = beginReading
	}
	if failure := c.here(); failure != nil {
		return failure
	}
	if err := c.retryBusy(func() error { return c.run(which) }); err != nil {
		return c.failed(err, opening)
	}
	c.h.forgetRowID()
	return nil
}

// here looks whether the file is still the one that was opened.
func (c *session) here() *db.Error {
	if !c.h.moved() {
		return nil
	}
	c.spoilt, c.moved = true, true
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
		"the database file was moved, deleted or replaced while it was open")
}

// end rolls back what is still open. It is the last thing that a call does with the connection.
func (c *session) end() {
	c.watch.disarm() // an interrupt would hit the ROLLBACK
	if c.rows.Size() > maxIdleRows {
		c.rows = engine.RowEncoder{}
	}
	c.rollBack()
}

// rollBack ends a transaction that is open.
func (c *session) rollBack() {
	if !c.h.inTransaction() {
		return
	}
	if err := c.run(rollback); err != nil || c.h.inTransaction() {
		c.spoilt = true
	}
}

// failed makes the public error of one that came from SQLite. What it says about the call comes first: a
// statement that was interrupted, or still waited for a lock, ended because of that.
func (c *session) failed(err error, when phase) *db.Error {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return e
	}
	if isWaiting(err) {
		if e := c.stopped(); e != nil {
			return e.Because(err)
		}
	}
	e := classify(err, when)
	if c.reads && e.EngineCode != "" && isReadOnly(err) {
		e.Class, e.Code, e.Message = db.ClassPermanent, contract.CodeReadOnly, "a read-only job cannot write"
	}
	if e.Class == db.ClassLost || e.Class == db.ClassUnavailable {
		c.spoilt = true
	}
	return e
}

// isWaiting reports whether an error may be how the end of a call shows.
func isWaiting(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.primary() == sqlite3.SQLITE_INTERRUPT || isBusy(err)
}

func isReadOnly(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.primary() == sqlite3.SQLITE_READONLY
}

// stopped is the error of a call whose time is over or whose context has ended; nil while it goes on.
func (c *session) stopped() *db.Error {
	switch c.watch.interrupted() {
	case timedOut:
		return engine.TimeOver()
	case canceled:
		return engine.GivenUp(nil)
	default:
		return nil
	}
}
