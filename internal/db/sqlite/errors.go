package sqlite

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// phase is what was under way when an error came.
type phase uint8

const (
	opening    phase = iota + 1 // nothing of the job has started: the file, the lock, BEGIN
	compiling                   // a statement is compiled: no value of a parameter is known yet
	running                     // a statement runs inside the transaction
	committing                  // COMMIT
)

// maxText bounds what is quoted of SQLite's messages, bytes.
const maxText = 300

// verdict is what an error of SQLite means.
type verdict struct {
	class   db.Class
	code    contract.Code
	message string // empty: SQLite's own, which is safe to show for this code
}

// classify turns an error of SQLite into the public one.
//
// Messages are shown only where SQLite makes them of names in the schema and of the statement's text. What
// comes while a statement runs may quote a value (json_extract(x, :path) does), so it is worded here.
func classify(err error, when phase) *db.Error {
	f, ok := errors.AsType[*fault](err)
	if !ok {
		return db.Errorf(db.ClassPermanent, contract.CodeDatabase, "the driver failed").Because(err)
	}
	v := judge(f, when)
	if v.message == "" {
		v.message = cut(f.text)
	}
	e := db.Errorf(v.class, v.code, "%s", v.message).Because(f)
	e.EngineCode = strconv.Itoa(int(f.code))
	return e
}

// judge decides by the result code: first by what the extended code says on its own, then by the primary one.
func judge(f *fault, when phase) verdict {
	if v, ok := extended[f.code]; ok {
		return v
	}
	switch f.primary() {
	case sqlite3.SQLITE_ERROR:
		// SQLITE_ERROR is the one number for everything that is wrong with a statement. Only its text distinguishes a missing
		// table from a missing comma: sqlite3.c has these words since 2004.
		if when != compiling {
			if strings.Contains(f.text, "transaction") {
				return verdict{db.ClassPermanent, contract.CodeForbiddenStatement, "this statement cannot run in a transaction"}
			}
			return verdict{db.ClassPermanent, contract.CodeData, "the statement failed on a value while it ran"}
		}
		for _, begin := range []string{"no such ", "unknown "} {
			if strings.HasPrefix(f.text, begin) {
				return verdict{db.ClassPermanent, contract.CodeUndefined, ""}
			}
		}
		if strings.HasPrefix(f.text, "table ") && strings.Contains(f.text, " has no column named ") {
			return verdict{db.ClassPermanent, contract.CodeUndefined, ""}
		}
		if strings.Contains(f.text, " already exists") || strings.HasPrefix(f.text, "there is already ") {
			return verdict{db.ClassPermanent, contract.CodeDatabase, ""}
		}
		if strings.HasPrefix(f.text, "not authorized") || strings.HasPrefix(f.text, "unsafe use of") {
			return verdict{db.ClassPermanent, contract.CodeForbiddenStatement, ""}
		}
		return verdict{db.ClassPermanent, contract.CodeSyntax, ""}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return verdict{
			db.ClassUnavailable, contract.CodeUnavailable,
			"the database file cannot be written: check the permissions of the file and its folder",
		}
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		// The file itself is at fault.
		switch f.primary() {
		case sqlite3.SQLITE_NOTADB:
			return verdict{db.ClassUnavailable, contract.CodeUnavailable, "the file is not an SQLite database"}
		case sqlite3.SQLITE_CORRUPT:
			message := "the database file is damaged: run PRAGMA integrity_check"
			if when == opening {
				return verdict{db.ClassUnavailable, contract.CodeUnavailable, message}
			}
			return verdict{db.ClassPermanent, contract.CodeDatabase, message}
		}
		if when == opening {
			return verdict{
				db.ClassUnavailable, contract.CodeUnavailable,
				"the database file cannot be opened: check that its folder exists and may be written",
			}
		}
		return verdict{db.ClassLost, contract.CodeConnectionLost, "the database file cannot be read or written"}
	}
	if v, ok := primaries[f.primary()]; ok {
		return v
	}
	return verdict{db.ClassPermanent, contract.CodeDatabase, "SQLite failed"}
}

// extended are the codes that mean something else than their primary code does.
var extended = map[int32]verdict{
	sqlite3.SQLITE_ERROR_MISSING_COLLSEQ: {db.ClassPermanent, contract.CodeUndefined, ""},
	sqlite3.SQLITE_ERROR_RETRY:           {db.ClassTransient, contract.CodeSerialization, "the schema changed meanwhile"},
	sqlite3.SQLITE_ERROR_SNAPSHOT:        {db.ClassTransient, contract.CodeSerialization, "the snapshot is gone"},

	sqlite3.SQLITE_BUSY_SNAPSHOT: {db.ClassTransient, contract.CodeSerialization, "another transaction was first"},

	sqlite3.SQLITE_CONSTRAINT_UNIQUE:     {db.ClassPermanent, contract.CodeUnique, ""},
	sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: {db.ClassPermanent, contract.CodeUnique, ""},
	sqlite3.SQLITE_CONSTRAINT_ROWID:      {db.ClassPermanent, contract.CodeUnique, ""},
	sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: {db.ClassPermanent, contract.CodeForeignKey, ""},
	sqlite3.SQLITE_CONSTRAINT_NOTNULL:    {db.ClassPermanent, contract.CodeNotNull, ""},
	sqlite3.SQLITE_CONSTRAINT_CHECK:      {db.ClassPermanent, contract.CodeCheck, ""},
	sqlite3.SQLITE_CONSTRAINT_DATATYPE:   {db.ClassPermanent, contract.CodeData, ""},

	sqlite3.SQLITE_IOERR_NOMEM: {db.ClassTransient, contract.CodeResources, "out of memory"},
}

// primaries are the codes that mean the same at any time.
var primaries = map[int32]verdict{
	sqlite3.SQLITE_BUSY: {
		db.ClassTransient, contract.CodeLockTimeout,
		"another process kept the database file locked for longer than the lock time limit",
	},
	sqlite3.SQLITE_LOCKED:     {db.ClassTransient, contract.CodeLockTimeout, "a table is locked"},
	sqlite3.SQLITE_PROTOCOL:   {db.ClassTransient, contract.CodeLockTimeout, "the file's lock was not available"},
	sqlite3.SQLITE_SCHEMA:     {db.ClassTransient, contract.CodeSerialization, "the schema changed meanwhile"},
	sqlite3.SQLITE_INTERRUPT:  {db.ClassCanceled, db.CodeCanceled, "interrupted"},
	sqlite3.SQLITE_ABORT:      {db.ClassPermanent, contract.CodeTransactionAborted, "a statement ended the transaction"},
	sqlite3.SQLITE_NOMEM:      {db.ClassTransient, contract.CodeResources, "out of memory"},
	sqlite3.SQLITE_FULL:       {db.ClassTransient, contract.CodeResources, "the disk or the database is full"},
	sqlite3.SQLITE_NOLFS:      {db.ClassPermanent, contract.CodeResources, "the file system does not allow a larger file"},
	sqlite3.SQLITE_AUTH:       {db.ClassPermanent, contract.CodeForbiddenStatement, "not allowed in jobs"},
	sqlite3.SQLITE_TOOBIG:     {db.ClassPermanent, contract.CodeData, "a value or the statement is too big"},
	sqlite3.SQLITE_MISMATCH:   {db.ClassPermanent, contract.CodeData, "a value does not fit the column's type"},
	sqlite3.SQLITE_RANGE:      {db.ClassPermanent, contract.CodeParameter, "unknown parameter"},
	sqlite3.SQLITE_CONSTRAINT: {db.ClassPermanent, contract.CodeConstraint, "a constraint or trigger refused the change"},
	sqlite3.SQLITE_INTERNAL:   {db.ClassPermanent, contract.CodeDatabase, "SQLite failed"},
	sqlite3.SQLITE_NOTFOUND:   {db.ClassPermanent, contract.CodeDatabase, "SQLite failed"},
	sqlite3.SQLITE_EMPTY:      {db.ClassPermanent, contract.CodeDatabase, "SQLite failed"},
	sqlite3.SQLITE_MISUSE:     {db.ClassPermanent, contract.CodeDatabase, "SQLite failed"},
	sqlite3.SQLITE_FORMAT:     {db.ClassPermanent, contract.CodeDatabase, "SQLite failed"},
}

// cut bounds a text and keeps it valid UTF-8.
func cut(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "…")
	}
	return text
}
