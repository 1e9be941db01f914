package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// openConn opens the file for writing (which creates it, if that is allowed) or for reading only.
func openConn(ctx context.Context, s *settings, reads bool) (*session, error) {
	flags := int32(sqlite3.SQLITE_OPEN_READWRITE)
	switch {
	case reads:
		flags = sqlite3.SQLITE_OPEN_READONLY
	case s.create:
		flags |= sqlite3.SQLITE_OPEN_CREATE
	}
	return openFile(ctx, s, flags, reads)
}

// openFile opens the file in SQLite's words and makes a connection of it.
func openFile(ctx context.Context, s *settings, flags int32, reads bool) (*session, error) {
	h, err := openHandle(s.path, flags)
	if err != nil {
		return nil, s.missing(err)
	}
	c := &session{h: h, settings: s, reads: reads}
	w := &watch{h: h}
	w.timer = time.AfterFunc(forever, w.tick)
	w.timer.Stop()
	c.watch = w
	c.cache.init()
	if err := c.setUp(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// missing says so where a folder is missing, or a file that was not to be created.
func (s *settings) missing(err error) error {
	text := "there is no database file; create it, or write settings.create: true"
	if _, stat := os.Stat(filepath.Dir(s.path)); errors.Is(stat, fs.ErrNotExist) {
		text = "the folder of the database file does not exist; create the folder"
	} else if _, stat := os.Stat(s.path); s.create || !errors.Is(stat, fs.ErrNotExist) {
		return err
	}
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "%s", text).Because(err)
}

// setUp makes the connection what every job finds.
func (c *session) setUp(ctx context.Context) error {
	defer c.arm(ctx, c.settings.lockTimeout)()
	defer c.watch.disarm()
	for setting, on := range map[int32]bool{
		sqlite3.SQLITE_DBCONFIG_DEFENSIVE:   true, // no writes past SQL into the file
		sqlite3.SQLITE_DBCONFIG_ENABLE_FKEY: true,
		sqlite3.SQLITE_DBCONFIG_DQS_DML:     false,
		sqlite3.SQLITE_DBCONFIG_DQS_DDL:     false,
	} {
		if err := c.h.configure(setting, on); err != nil {
			return err
		}
	}
	// Make SQLite itself wait this many milliseconds for a lock.
	if err := c.h.check(sqlite3.Xsqlite3_busy_timeout(c.h.tls, c.h.db, busyWait)); err != nil {
		return err
	}
	// Bound the length of a value, in bytes.
	sqlite3.Xsqlite3_limit(c.h.tls, c.h.db, sqlite3.SQLITE_LIMIT_LENGTH, maxLength)
	if !c.reads {
		if _, err := c.pragma("PRAGMA synchronous = " + c.settings.synchronous); err != nil {
			return err
		}
		mode := ""
		err := c.retryBusy(func() (err error) {
			mode, err = c.pragma("PRAGMA journal_mode = WAL")
			return err
		})
		if err == nil && mode != "wal" && !c.h.readOnly() {
			return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
				"the database file cannot be in WAL mode: it must be on a local file system")
		}
		if err != nil {
			return err
		}
	}
	// Install the authorizer: SQLite asks it about every action while it compiles a statement, also when it compiles
	// one again because the schema has changed. It costs nothing when a compiled statement runs.
	return c.h.check(sqlite3.Xsqlite3_set_authorizer(c.h.tls, c.h.db, functionPointer(authorize), c.h.addr))
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

// notOpened is the error of a connection that could not be opened.
func notOpened(ctx context.Context, err error) *db.Error {
	return engine.CheckNotConnected(ctx, err, func(err error) *db.Error {
		e := opened(err)
		e.Class, e.Code = db.ClassUnavailable, contract.CodeUnavailable
		return e
	})
}
