package sqlite

import (
	"unsafe"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/internal/db"
)

// checkDeferred fails as COMMIT would where a foreign key is violated whose check was deferred to it.
func (c *session) checkDeferred() *db.Error {
	if failure := c.stopped(); failure != nil {
		return failure
	}
	unresolved, err := c.h.deferredKeys()
	if err == nil && unresolved {
		err = &fault{code: sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, text: "FOREIGN KEY constraint failed", offset: -1}
	}
	if err != nil {
		return c.failed(err, committing)
	}
	return nil
}

// deferredKeys reports whether a foreign key is violated in the open transaction, which COMMIT would refuse.
func (h *handle) deferredKeys() (bool, error) {
	at := h.addr + unsafe.Offsetof(h.mem.deferred)
	rc := sqlite3.Xsqlite3_db_status(h.tls, h.db, sqlite3.SQLITE_DBSTATUS_DEFERRED_FKS, at, at+unsafe.Sizeof(h.mem.deferred[0]), 0)
	return h.mem.deferred[0] != 0, h.check(rc)
}
