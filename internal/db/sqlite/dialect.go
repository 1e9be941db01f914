package sqlite

import (
	"fmt"
	"strconv"
	"strings"

	"dbrunner/internal/db/dialect"
)

// maxParams is SQLite's own limit (SQLITE_MAX_VARIABLE_NUMBER).
const maxParams = 32766

// shapes is how much memory the dialect keeps for SQL texts that it has read, bytes.
const shapes = 4 << 20

// Dialect returns how SQL text and parameters of this engine are read.
func Dialect() *dialect.Dialect { return newDialect() }

func newDialect() *dialect.Dialect {
	return &dialect.Dialect{
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
		Foreign:         foreign,
		CheckValue:      checkValue,
		Cache:           dialect.NewCache(shapes),
	}
}

func words(list ...string) map[string]bool {
	table := make(map[string]bool, len(list))
	for _, w := range list {
		table[w] = true
	}
	return table
}

// foreign finds a command of the sqlite3 program: no statement begins with a dot.
func foreign(_ *dialect.Dialect, _ string, parts []dialect.Part) string {
	for i := range parts {
		if !strings.HasPrefix(parts[i].SQL, ".") {
			continue
		}
		name, _, _ := strings.Cut(strings.SplitN(parts[i].SQL, "\n", 2)[0], " ")
		return fmt.Sprintf("line %d: %.32q is a command of the sqlite3 program: %s", parts[i].Line, name, insteadOf(name))
	}
	return ""
}

// insteadOf says what to write instead of a command.
func insteadOf(name string) string {
	switch name {
	case ".read":
		return "make the other file a migration of its own"
	case ".import", ".load", ".restore", ".open":
		return "write its rows as INSERT statements"
	}
	return "remove the line"
}
