package sqlite

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
)

// stmt is a compiled statement of one handle.
type stmt struct {
	h       *handle
	p       uintptr // sqlite3_stmt*
	sql     string
	params  int
	columns int
	private bool // running it leaves something behind in the connection (a temporary object)

	described []contract.Column // results hold it too: never changed, only replaced
	compiles  int32             // how often SQLite had compiled the statement again when described was made

	newer, older *stmt // neighbours in the cache
}

func newStmt(h *handle, p uintptr) *stmt {
	return &stmt{
		h: h, p: p,
		params:  int(sqlite3.Xsqlite3_bind_parameter_count(h.tls, p)),
		columns: int(sqlite3.Xsqlite3_column_count(h.tls, p)),
	}
}

// step runs the statement to its next row; false = done.
func (s *stmt) step() (bool, error) {
	switch rc := sqlite3.Xsqlite3_step(s.h.tls, s.p); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		return false, nil
	default:
		return false, s.h.fault(rc)
	}
}

// reset makes the statement ready to run again, and forgets its arguments. The error that
// sqlite3_reset repeats was step's.
func (s *stmt) reset() {
	sqlite3.Xsqlite3_reset(s.h.tls, s.p)
	if s.params > 0 {
		sqlite3.Xsqlite3_clear_bindings(s.h.tls, s.p)
	}
}

// run steps a statement without rows to its end, and resets it.
func (s *stmt) run() error {
	_, err := s.step()
	s.reset()
	return err
}

func (s *stmt) finalize() { sqlite3.Xsqlite3_finalize(s.h.tls, s.p) }

// Arguments are numbered from 1.

func (s *stmt) bindNull(i int) error {
	return s.h.check(sqlite3.Xsqlite3_bind_null(s.h.tls, s.p, int32(i)))
}

func (s *stmt) bindInt(i int, n int64) error {
	return s.h.check(sqlite3.Xsqlite3_bind_int64(s.h.tls, s.p, int32(i), n))
}

func (s *stmt) bindText(i int, text string) error {
	p, err := copied(s.h, text)
	if err != nil {
		return err
	}
	n := sqlite3.Tsqlite3_uint64(len(text))
	free := functionPointer(sqlite3.Xsqlite3_free)
	return s.h.check(sqlite3.Xsqlite3_bind_text64(s.h.tls, s.p, int32(i), p, n, free, sqlite3.SQLITE_UTF8))
}

func (s *stmt) bindBlob(i int, blob []byte) error {
	p, err := copied(s.h, blob)
	if err != nil {
		return err
	}
	n := sqlite3.Tsqlite3_uint64(len(blob))
	free := functionPointer(sqlite3.Xsqlite3_free)
	return s.h.check(sqlite3.Xsqlite3_bind_blob64(s.h.tls, s.p, int32(i), p, n, free))
}

// Columns are numbered from 0.

func (s *stmt) columnInt(i int) int64 { return sqlite3.Xsqlite3_column_int64(s.h.tls, s.p, int32(i)) }

// columnText is the value's text in SQLite's own memory: good until the next step or reset.
func (s *stmt) columnText(i int) []byte {
	p := sqlite3.Xsqlite3_column_text(s.h.tls, s.p, int32(i))
	return s.view(p, i)
}

// columnBlob is the value's bytes in SQLite's own memory: good until the next step or reset.
func (s *stmt) columnBlob(i int) []byte {
	p := sqlite3.Xsqlite3_column_blob(s.h.tls, s.p, int32(i))
	return s.view(p, i)
}

func (s *stmt) view(p uintptr, i int) []byte {
	n := sqlite3.Xsqlite3_column_bytes(s.h.tls, s.p, int32(i))
	if p == 0 || n == 0 {
		return nil
	}
	return libc.GoBytes(p, int(n))
}
