package sqlite

import (
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// meaning is what a code means while a statement runs, and while nothing has started where that differs.
type meaning struct {
	codes   []int32
	class   db.Class
	code    contract.Code
	opening db.Class
}

// meanings are all primary and extended result codes that SQLite documents.
func meanings() []meaning {
	const unavailable = db.ClassUnavailable
	return []meaning{
		{[]int32{
			sqlite3.SQLITE_ERROR, sqlite3.SQLITE_ERROR_KEY, sqlite3.SQLITE_ERROR_RESERVESIZE,
			sqlite3.SQLITE_ERROR_UNABLE,
		}, db.ClassPermanent, contract.CodeData, 0},
		{[]int32{sqlite3.SQLITE_ERROR_MISSING_COLLSEQ}, db.ClassPermanent, contract.CodeUndefined, 0},
		{[]int32{
			sqlite3.SQLITE_ERROR_RETRY, sqlite3.SQLITE_ERROR_SNAPSHOT, sqlite3.SQLITE_SCHEMA,
			sqlite3.SQLITE_BUSY_SNAPSHOT,
		}, db.ClassTransient, contract.CodeSerialization, 0},
		{
			[]int32{
				sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_TIMEOUT, sqlite3.SQLITE_LOCKED,
				sqlite3.SQLITE_LOCKED_SHAREDCACHE, sqlite3.SQLITE_LOCKED_VTAB, sqlite3.SQLITE_PROTOCOL,
			},
			db.ClassTransient, contract.CodeLockTimeout, 0,
		},
		{
			[]int32{sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_FULL},
			db.ClassTransient, contract.CodeResources, 0,
		},
		{[]int32{sqlite3.SQLITE_NOLFS}, db.ClassPermanent, contract.CodeResources, 0},
		{[]int32{sqlite3.SQLITE_INTERRUPT}, db.ClassCanceled, db.CodeCanceled, 0},
		{[]int32{sqlite3.SQLITE_ABORT, sqlite3.SQLITE_ABORT_ROLLBACK}, db.ClassPermanent, contract.CodeTransactionAborted, 0},
		{[]int32{sqlite3.SQLITE_AUTH, sqlite3.SQLITE_AUTH_USER}, db.ClassPermanent, contract.CodeForbiddenStatement, 0},
		{
			[]int32{sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT_DATATYPE},
			db.ClassPermanent, contract.CodeData, 0,
		},
		{[]int32{sqlite3.SQLITE_RANGE}, db.ClassPermanent, contract.CodeParameter, 0},
		{[]int32{
			sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
			sqlite3.SQLITE_CONSTRAINT_ROWID,
		}, db.ClassPermanent, contract.CodeUnique, 0},
		{[]int32{sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY}, db.ClassPermanent, contract.CodeForeignKey, 0},
		{[]int32{sqlite3.SQLITE_CONSTRAINT_NOTNULL}, db.ClassPermanent, contract.CodeNotNull, 0},
		{[]int32{sqlite3.SQLITE_CONSTRAINT_CHECK}, db.ClassPermanent, contract.CodeCheck, 0},
		{
			[]int32{
				sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_CONSTRAINT_TRIGGER, sqlite3.SQLITE_CONSTRAINT_VTAB,
				sqlite3.SQLITE_CONSTRAINT_FUNCTION, sqlite3.SQLITE_CONSTRAINT_COMMITHOOK, sqlite3.SQLITE_CONSTRAINT_PINNED,
			},
			db.ClassPermanent, contract.CodeConstraint, 0,
		},
		{[]int32{
			sqlite3.SQLITE_INTERNAL, sqlite3.SQLITE_NOTFOUND, sqlite3.SQLITE_EMPTY, sqlite3.SQLITE_MISUSE,
			sqlite3.SQLITE_FORMAT, 99,
		}, db.ClassPermanent, contract.CodeDatabase, 0},
		{
			[]int32{
				sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_CANTINIT,
				sqlite3.SQLITE_READONLY_CANTLOCK, sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_READONLY_DIRECTORY,
				sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_NOTADB,
			},
			unavailable, contract.CodeUnavailable, 0,
		},
		{[]int32{
			sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.SQLITE_CORRUPT_SEQUENCE,
			sqlite3.SQLITE_CORRUPT_VTAB,
		}, db.ClassPermanent, contract.CodeDatabase, unavailable},
		{[]int32{
			sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CANTOPEN_CONVPATH, sqlite3.SQLITE_CANTOPEN_DIRTYWAL,
			sqlite3.SQLITE_CANTOPEN_FULLPATH, sqlite3.SQLITE_CANTOPEN_ISDIR, sqlite3.SQLITE_CANTOPEN_NOTEMPDIR,
			sqlite3.SQLITE_CANTOPEN_SYMLINK,
		}, db.ClassLost, contract.CodeConnectionLost, unavailable},
		{ioErrors(), db.ClassLost, contract.CodeConnectionLost, unavailable},
	}
}

// ioErrors are SQLITE_IOERR and its extensions, which are numbered through; the twelfth is out of memory.
func ioErrors() []int32 {
	codes := []int32{sqlite3.SQLITE_IOERR}
	for n := int32(1); sqlite3.SQLITE_IOERR|n<<8 <= sqlite3.SQLITE_IOERR_CODEC; n++ {
		if code := sqlite3.SQLITE_IOERR | n<<8; code != sqlite3.SQLITE_IOERR_NOMEM {
			codes = append(codes, code)
		}
	}
	return codes
}

// TestClassify knows every code, and finds that none shows SQLite's text while a statement runs, but those
// whose text names nothing but the schema.
func TestClassify(t *testing.T) {
	t.Parallel()
	const secret = "value of a parameter"
	shown := map[contract.Code]bool{
		contract.CodeUndefined: true, contract.CodeUnique: true, contract.CodeForeignKey: true,
		contract.CodeNotNull: true, contract.CodeCheck: true,
	}
	seen := map[int32]bool{}
	for _, m := range meanings() {
		for _, code := range m.codes {
			require.False(t, seen[code], code)
			seen[code] = true
			f := &fault{code: code, text: secret}
			e := classify(f, running)
			require.Equal(t, m.class, e.Class, code)
			require.Equal(t, m.code, e.Code, code)
			require.Equal(t, strconv.Itoa(int(code)), e.EngineCode)
			require.Equal(t, -1, e.Statement)
			require.ErrorIs(t, e, error(f))
			if !shown[m.code] && code != sqlite3.SQLITE_CONSTRAINT_DATATYPE {
				require.NotContains(t, e.Error(), secret, code)
			}
			if m.opening != 0 {
				require.Equal(t, m.opening, classify(f, opening).Class, code)
			}
		}
	}
	for primary := int32(sqlite3.SQLITE_ERROR); primary <= sqlite3.SQLITE_NOTADB; primary++ {
		require.True(t, seen[primary], "primary code %d", primary)
	}
	require.Greater(t, len(seen), 95)
}

func TestClassifyTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]contract.Code{
		`near "SELEC": syntax error`:                contract.CodeSyntax,
		"incomplete input":                          contract.CodeSyntax,
		"no such table: item":                       contract.CodeUndefined,
		"no such column: x":                         contract.CodeUndefined,
		"no such function: f":                       contract.CodeUndefined,
		"unknown database x":                        contract.CodeUndefined,
		"table item already exists":                 contract.CodeDatabase,
		"there is already an index named x":         contract.CodeDatabase,
		"not authorized to use function: f":         contract.CodeForbiddenStatement,
		"unsafe use of load_extension()":            contract.CodeForbiddenStatement,
		"wrong number of arguments to function f()": contract.CodeSyntax,
	} {
		e := classify(&fault{code: sqlite3.SQLITE_ERROR, text: text}, compiling)
		require.Equal(t, want, e.Code, text)
		require.Equal(t, text, e.Message)
	}
	e := classify(&fault{code: sqlite3.SQLITE_ERROR, text: "cannot VACUUM from within a transaction"}, running)
	require.Equal(t, contract.CodeForbiddenStatement, e.Code)
	e = classify(&fault{code: sqlite3.SQLITE_ERROR, text: string(make([]byte, 1000)) + "\xff"}, compiling)
	require.LessOrEqual(t, len(e.Message), maxText+len("…"))
	e = classify(errors.New("not of SQLite"), running)
	require.Equal(t, contract.CodeDatabase, e.Code)
	require.NotContains(t, e.Error(), "not of SQLite")
}
