package sqlite

import (
	"strings"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// pragmaUse is how a job may use a PRAGMA.
type pragmaUse uint8

const (
	pragmaAsk   pragmaUse = iota + 1 // only without a value
	pragmaQuery                      // the value names what is asked about
)

// pragmas are the ones that change nothing: those that describe the schema, as table-valued functions
// (SELECT … FROM pragma_table_info('item')), and those that virtual tables ask for themselves. Every other one
// is refused in jobs: many would stay in the connection (foreign_keys, case_sensitive_like) or in the file
// (journal_mode, user_version).
var pragmas = map[string]pragmaUse{
	"table_info": pragmaQuery, "table_xinfo": pragmaQuery, "table_list": pragmaQuery,
	"index_info": pragmaQuery, "index_xinfo": pragmaQuery, "index_list": pragmaQuery, "foreign_key_list": pragmaQuery,
	"page_size": pragmaAsk, "data_version": pragmaAsk, "encoding": pragmaAsk,
}

// What the compilation of a statement has shown so far.
const (
	sawDefinition int32 = 1 << iota // it defines a table, or changes the definition of one
	sawBody                         // it defines a trigger or a virtual table, or changes a table
	sawSelect
)

// authorize is called by SQLite; arg is the address of the connection's shared memory. Statements of ours
// may do everything, those of jobs all but leave traces outside their transaction or touch the ledger.
func authorize(_ *libc.TLS, arg uintptr, action int32, z1, z2, z3, _ uintptr) int32 {
	mem := sharedAt(arg)
	if mem.job == 0 {
		return sqlite3.SQLITE_OK
	}
	if temporary(action, z1, z3) {
		mem.private = 1
	}
	mem.seen |= shows(action, z1)
	if refuses(action, z1, z2) {
		mem.refused = action
		return sqlite3.SQLITE_DENY
	}
	return sqlite3.SQLITE_OK
}

// refuses reports whether a job may not do something. What the two names are depends on the action:
// https://www.sqlite.org/c3ref/c_alter_table.html. What this version of SQLite does not know is refused.
func refuses(action int32, z1, z2 uintptr) bool {
	switch action {
	case sqlite3.SQLITE_PRAGMA:
		use := pragmas[strings.ToLower(libc.GoString(z1))]
		return use == 0 || use == pragmaAsk && z2 != 0
	case sqlite3.SQLITE_FUNCTION:
		return strings.EqualFold(libc.GoString(z2), "load_extension")
	case sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
		sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_TEMP_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_DROP_TEMP_TABLE,
		sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_CREATE_TEMP_VIEW, sqlite3.SQLITE_DROP_VIEW, sqlite3.SQLITE_DROP_TEMP_VIEW,
		sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_VTABLE:
		return isOurs(z1)
	case sqlite3.SQLITE_ALTER_TABLE,
		sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_TEMP_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_DROP_TEMP_INDEX,
		sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER, sqlite3.SQLITE_DROP_TEMP_TRIGGER:
		return isOurs(z2)
	case sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_ANALYZE, sqlite3.SQLITE_REINDEX:
		return false
	default: // ATTACH, DETACH, TRANSACTION, SAVEPOINT
		return true
	}
}

// isOurs reports whether a name is that of a table of ours, in whichever schema.
func isOurs(name uintptr) bool {
	text := libc.GoString(name)
	return strings.EqualFold(text, ledgerTable) || strings.EqualFold(text, historyTable) || strings.EqualFold(text, outboxTable)
}

// temporary reports whether an action is about the connection's own temporary schema, which a COMMIT keeps:
// the connection is closed after it (see conn.execute). SQLite passes the schema as the third name, for ALTER
// TABLE as the first.
func temporary(action int32, z1, z3 uintptr) bool {
	schema := z3
	if action == sqlite3.SQLITE_ALTER_TABLE {
		schema = z1
	}
	return schema != 0 && strings.EqualFold(libc.GoString(schema), "temp")
}

// shows returns what an action says about its statement. ANALYZE and AUTOINCREMENT make tables of SQLite's own.
func shows(action int32, z1 uintptr) int32 {
	switch action {
	case sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_TEMP_TABLE:
		if strings.HasPrefix(strings.ToLower(libc.GoString(z1)), "sqlite_") {
			return 0
		}
		return sawDefinition
	case sqlite3.SQLITE_ALTER_TABLE, sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_CREATE_VTABLE:
		return sawBody
	case sqlite3.SQLITE_SELECT:
		return sawSelect
	default:
		return 0
	}
}

// definesOnOurs reports whether a statement makes a definition that refers to a table of ours, which SQLite does
// not ask about: a foreign key, the body of a trigger, a new name. They would take effect in statements of ours,
// or in migrations. A name is always written out, as SQLite has no escapes for its letters. CREATE TABLE … AS SELECT
// copies rows and refers to nothing.
func definesOnOurs(seen int32, sql string) bool {
	if seen&sawBody == 0 && (seen&sawDefinition == 0 || seen&sawSelect != 0) {
		return false
	}
	lower := strings.ToLower(sql)
	return strings.Contains(lower, ledgerTable) || strings.Contains(lower, historyTable) || strings.Contains(lower, outboxTable)
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
		return "jobs must not change the ledger, the migration history or the outbox, nor refer to them in a definition"
	}
}
