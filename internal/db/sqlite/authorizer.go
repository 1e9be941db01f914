package sqlite

import (
	"strings"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// pragmaUse is how a job may use a PRAGMA.
type pragmaUse uint8

const (
	pragmaAsk  pragmaUse = iota + 1 // only without a value
	pragmaTell                      // the value names what is asked about
)

// pragmas are the ones that change nothing: those that tell about the schema, as table-valued functions
// (SELECT … FROM pragma_table_info('item')), and those that virtual tables ask for themselves. Every other one
// is refused in jobs: many would stay in the connection (foreign_keys, case_sensitive_like) or in the file
// (journal_mode, user_version).
var pragmas = map[string]pragmaUse{
	"table_info": pragmaTell, "table_xinfo": pragmaTell, "table_list": pragmaTell,
	"index_info": pragmaTell, "index_xinfo": pragmaTell, "index_list": pragmaTell, "foreign_key_list": pragmaTell,
	"page_size": pragmaAsk, "data_version": pragmaAsk, "encoding": pragmaAsk,
}

// guard installs the authorizer: SQLite asks it about every action while it compiles a statement, also when
// it compiles one again because the schema has changed. It costs nothing when a compiled statement runs.
func (h *handle) guard() error {
	return h.check(sqlite3.Xsqlite3_set_authorizer(h.tls, h.db, functionPointer(authorize), h.addr))
}

// authorize is called by SQLite; arg is the address of the connection's shared memory. Statements of ours
// may do everything, those of jobs all but leave traces outside their transaction or touch the ledger.
func authorize(_ *libc.TLS, arg uintptr, action int32, z1, z2, _, _ uintptr) int32 {
	mem := sharedAt(arg)
	if mem.job == 0 {
		return sqlite3.SQLITE_OK
	}
	if temporary(action) {
		mem.private = 1
	}
	if refuses(action, z1, z2) {
		mem.refused = action
		return sqlite3.SQLITE_DENY
	}
	return sqlite3.SQLITE_OK
}

// refuses says whether a job may not do something. What the two names are depends on the action:
// https://www.sqlite.org/c3ref/c_alter_table.html
func refuses(action int32, z1, z2 uintptr) bool {
	switch action {
	case sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT:
		return true
	case sqlite3.SQLITE_PRAGMA:
		use := pragmas[strings.ToLower(libc.GoString(z1))]
		return use == 0 || use == pragmaAsk && z2 != 0
	case sqlite3.SQLITE_FUNCTION:
		return strings.EqualFold(libc.GoString(z2), "load_extension")
	case sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_DROP_TABLE:
		return isLedger(z1)
	case sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX,
		sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER:
		return isLedger(z2)
	case sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_VIEW:
		return isLedger(z1) // it would stand before the real one
	default:
		return false
	}
}

func isLedger(name uintptr) bool { return strings.EqualFold(libc.GoString(name), ledgerTable) }

// temporary reports whether an action changes the connection's own temporary schema, which a COMMIT keeps:
// the connection is closed after it (see conn.reusable).
func temporary(action int32) bool {
	switch action {
	case sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
		sqlite3.SQLITE_CREATE_TEMP_VIEW:
		return true
	default:
		return false
	}
}

// refusedWhat names an action for the publisher whose statement was refused.
func refusedWhat(action int32) string {
	switch action {
	case sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH:
		return "attaching databases is not allowed in jobs"
	case sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT:
		return "transaction control is not allowed in jobs"
	case sqlite3.SQLITE_PRAGMA:
		return "this PRAGMA is not allowed in jobs"
	case sqlite3.SQLITE_FUNCTION:
		return "this function is not allowed in jobs"
	default:
		return "the ledger is not for jobs to change"
	}
}
