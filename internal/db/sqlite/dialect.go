package sqlite

import (
	"strconv"

	"dbrunner/internal/db"
)

// maxParams is SQLite's own limit (SQLITE_MAX_VARIABLE_NUMBER).
const maxParams = 32766

// shapes is how much memory the dialect keeps for SQL texts that it has read, bytes.
const shapes = 4 << 20

// Dialect returns how SQL text and parameters of this engine are read.
func Dialect() *db.Dialect { return newDialect() }

func newDialect() *db.Dialect {
	return &db.Dialect{
		Brackets:      true,
		Backticks:     true,
		QuestionMarks: true,
		Sigils:        "@#$:",
		MaxParams:     maxParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, '?'), int64(n), 10)
		},
		ReadOnlyFirst:   words("SELECT", "WITH", "VALUES", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"),
		ForbiddenFirst:  words("ATTACH", "DETACH", "PRAGMA", "VACUUM INTO"),
		CheckValue:      checkValue,
		Cache:           db.NewCache(shapes),
	}
}

func words(list ...string) map[string]bool {
	table := make(map[string]bool, len(list))
	for _, w := range list {
		table[w] = true
	}
	return table
}
