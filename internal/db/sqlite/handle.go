package sqlite

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// handle is one sqlite3 connection, spoken to by the C interface that modernc.org/sqlite/lib translates.
// database/sql is not used: the driver turns TEXT in columns declared DATE, DATETIME or TIMESTAMP into
// time.Time, so that the stored value cannot be had back, and it hides sqlite3_get_autocommit, which alone
// reports whether a failed COMMIT left the transaction open.
//
// One goroutine at a time uses a handle; only interrupt may be called beside it (see watch).
type handle struct {
	tls  *libc.TLS
	db   uintptr // sqlite3*
	mem  *shared // C memory, so that C may write to it
	addr uintptr // of mem
}

// shared is the memory that both sides of the interface use.
type shared struct {
	stmt, tail uintptr // where sqlite3_prepare_v3 leaves its answers
	job        int32   // 1 while SQL text of a job is compiled or run: the authorizer is strict
	refused    int32   // the last action that the authorizer refused, 0 = none
	moved      int32   // where SQLite reports whether the file was moved
	private    int32   // 1: what was compiled changes something that outlives the transaction in this connection
	seen       int32   // the saw… bits of what was compiled

	deferred [2]int32 // where SQLite reports violated foreign keys: 0 if there are none, and a number that means nothing
}

// fault is an error of SQLite: the extended result code and its text.
type fault struct {
	code   int32
	text   string
	offset int // of what is wrong in the text of a statement, bytes; -1: SQLite does not report it; only of prepare
}

// Error returns code and text. The text may quote values of parameters, so it is never shown to publishers
// as it is: see classify.
func (f *fault) Error() string { return fmt.Sprintf("sqlite error %d: %s", f.code, f.text) }

// primary is the result code without its extension.
func (f *fault) primary() int32 { return f.code & 0xff }

// isBusy reports whether a lock of another connection caused the error.
func isBusy(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.primary() == sqlite3.SQLITE_BUSY && f.code != sqlite3.SQLITE_BUSY_SNAPSHOT
}

// openHandle opens a file. The path is taken as it is: no URI, no parameters.
func openHandle(path string, flags int32) (*handle, error) {
	h := &handle{tls: libc.NewTLS()}
	h.addr = sqlite3.Xsqlite3_malloc(h.tls, int32(unsafe.Sizeof(shared{})))
	if h.addr == 0 {
		h.tls.Close()
		return nil, &fault{code: sqlite3.SQLITE_NOMEM, text: "out of memory"}
	}
	h.mem = sharedAt(h.addr)
	*h.mem = shared{}
	if err := h.open(path, flags|sqlite3.SQLITE_OPEN_NOMUTEX|sqlite3.SQLITE_OPEN_EXRESCODE); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *handle) open(path string, flags int32) error {
	zPath, err := libc.CString(path)
	if err != nil {
		return err
	}
	defer libc.Xfree(h.tls, zPath)
	out := h.addr + unsafe.Offsetof(h.mem.stmt)
	rc := sqlite3.Xsqlite3_open_v2(h.tls, zPath, out, flags, 0)
	h.db, h.mem.stmt = h.mem.stmt, 0
	return h.check(rc)
}

// close finishes the connection. Statements must have been finalized.
func (h *handle) close() {
	if h.db != 0 {
		sqlite3.Xsqlite3_close_v2(h.tls, h.db)
	}
	sqlite3.Xsqlite3_free(h.tls, h.addr)
	h.mem = nil
	h.tls.Close()
}

// check turns a result code into an error with the connection's text for it.
func (h *handle) check(rc int32) error {
	if rc == sqlite3.SQLITE_OK {
		return nil
	}
	return h.fault(rc)
}

func (h *handle) fault(rc int32) *fault {
	f := &fault{code: rc, text: libc.GoString(sqlite3.Xsqlite3_errstr(h.tls, rc)), offset: -1}
	if h.db != 0 && sqlite3.Xsqlite3_extended_errcode(h.tls, h.db) == rc {
		f.text = libc.GoString(sqlite3.Xsqlite3_errmsg(h.tls, h.db))
	}
	return f
}

// inTransaction reports whether a transaction is open.
func (h *handle) inTransaction() bool { return sqlite3.Xsqlite3_get_autocommit(h.tls, h.db) == 0 }

// changes is the number of rows that the last INSERT, UPDATE or DELETE changed itself.
func (h *handle) changes() int64 { return sqlite3.Xsqlite3_changes64(h.tls, h.db) }

// totalChanges is the number of rows changed since the connection was opened, triggers included.
func (h *handle) totalChanges() int64 { return sqlite3.Xsqlite3_total_changes64(h.tls, h.db) }

// forgetRowID makes last_insert_rowid() say nothing about earlier work.
func (h *handle) forgetRowID() { sqlite3.Xsqlite3_set_last_insert_rowid(h.tls, h.db, 0) }

// moved reports whether the path leads to another file by now, or to none: what is written would be lost, and
// what is read is of yesterday.
func (h *handle) moved() bool {
	out := h.addr + unsafe.Offsetof(h.mem.moved)
	h.mem.moved = 0
	rc := sqlite3.Xsqlite3_file_control(h.tls, h.db, 0, sqlite3.SQLITE_FCNTL_HAS_MOVED, out)
	return rc == sqlite3.SQLITE_OK && h.mem.moved != 0
}

// readOnly reports whether the file was opened for reading only, by wish or for lack of permission.
func (h *handle) readOnly() bool {
	zMain, err := libc.CString("main")
	if err != nil {
		return false
	}
	defer libc.Xfree(h.tls, zMain)
	return sqlite3.Xsqlite3_db_readonly(h.tls, h.db, zMain) == 1
}

// configure switches one of SQLite's per-connection settings.
func (h *handle) configure(setting int32, on bool) error {
	value := int32(0)
	if on {
		value = 1
	}
	args := libc.NewVaList(value, uintptr(0))
	if args == 0 {
		return &fault{code: sqlite3.SQLITE_NOMEM, text: "out of memory"}
	}
	defer libc.Xfree(h.tls, args)
	return h.check(sqlite3.Xsqlite3_db_config(h.tls, h.db, setting, args))
}

// prepare compiles the first statement of a text; tail is what follows it. A text without a statement
// gives nil.
func (h *handle) prepare(sql string, flags uint32) (s *stmt, tail string, err error) {
	if len(sql) >= math.MaxInt32 {
		return nil, "", &fault{code: sqlite3.SQLITE_TOOBIG, text: "statement too long"}
	}
	zSQL, err := libc.CString(sql)
	if err != nil {
		return nil, "", err
	}
	defer libc.Xfree(h.tls, zSQL)
	out, tailOut := h.addr+unsafe.Offsetof(h.mem.stmt), h.addr+unsafe.Offsetof(h.mem.tail)
	rc := sqlite3.Xsqlite3_prepare_v3(h.tls, h.db, zSQL, int32(len(sql))+1, flags, out, tailOut)
	if rc != sqlite3.SQLITE_OK {
		f := h.fault(rc)
		f.offset = int(sqlite3.Xsqlite3_error_offset(h.tls, h.db))
		return nil, "", f
	}
	tail = sql[min(len(sql), int(h.mem.tail-zSQL)):]
	if h.mem.stmt == 0 {
		return nil, tail, nil
	}
	return newStmt(h, h.mem.stmt), tail, nil
}

// copied copies a Go value to C memory, which the caller frees.
func copied[T ~string | ~[]byte](h *handle, value T) (uintptr, error) {
	p := sqlite3.Xsqlite3_malloc64(h.tls, sqlite3.Tsqlite3_uint64(len(value)+1))
	if p == 0 {
		return 0, &fault{code: sqlite3.SQLITE_NOMEM, text: "out of memory"}
	}
	copy(libc.GoBytes(p, len(value)), value)
	return p, nil
}

// sharedAt looks at C memory as a shared.
func sharedAt(addr uintptr) *shared {
	return (*shared)(unsafe.Pointer(unsafe.SliceData(libc.GoBytes(addr, int(unsafe.Sizeof(shared{}))))))
}

// functionPointer is the address that translated C calls a Go function by: a pointer to the function value.
func functionPointer[F any](f F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f}))
}
