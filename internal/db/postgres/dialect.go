package postgres

import (
	"strconv"

	"dbrunner/internal/db/dialect"
)

// maxParams is the protocol's own limit: the number of arguments has 16 bits.
const maxParams = 65535

// shapes is how much memory the dialect keeps for SQL texts that it has read, bytes.
const shapes = 4 << 20

func words(list ...string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, w := range list {
		m[w] = true
	}
	return m
}

// Dialect returns how SQL text and parameters of this engine are read.
func Dialect() *dialect.Dialect { return newDialect() }

func newDialect() *dialect.Dialect {
	return &dialect.Dialect{
		DollarQuotes:   true,
		EscapeStrings:  true,
		NestedComments: true,
		ReturnEndsLine: true,
		MarkInNames:    true,
		MaxParams:      maxParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, '$'), int64(n), 10)
		},
		ReadOnlyFirst: words("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE",
			"PREPARE TRANSACTION", "SET TRANSACTION", "SET LOCAL TRANSACTION", "SET SESSION TRANSACTION",
			"SET SESSION CHARACTERISTICS", "SET LOCAL SESSION", "SET SESSION SESSION"),
		ForbiddenFirst: words("PREPARE", "EXECUTE", "DEALLOCATE", "DISCARD", "LISTEN", "UNLISTEN", "LOAD", "COPY"),
		Foreign:        foreign,
		CheckValue:     checkValue,
		Cache:          dialect.NewCache(shapes),
	}
}
