package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

// sqliteParams is SQLite's own limit (SQLITE_MAX_VARIABLE_NUMBER).
const sqliteParams = 32766

// SQLite returns how SQLite's SQL text and parameters are read; its engine adds CheckValue.
func SQLite() *Dialect {
	return &Dialect{
		Brackets:      true,
		Backticks:     true,
		QuestionMarks: true,
		Sigils:        "@#$:",
		MaxParams:     sqliteParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, '?'), int64(n), 10)
		},
		ReadOnlyFirst:    words("SELECT", "WITH", "VALUES", "EXPLAIN"),
		TransactionVerb:  words("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"),
		ForbiddenFirst:   words("ATTACH", "DETACH", "PRAGMA", "VACUUM INTO"),
		Countable:        words("SELECT", "WITH", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "EXPLAIN"),
		Foreign:          sqliteForeign,
		Kind:             sqliteType,
		NonTransactional: sqliteNonTransactional,
		Cache:            NewCache(shapes),
	}
}

// sqliteForeign finds a command of the sqlite3 program: no statement starts with a dot.
func sqliteForeign(_ *Dialect, _ string, parts []Part) string {
	for i := range parts {
		if !strings.HasPrefix(parts[i].SQL, ".") {
			continue
		}
		name, _, _ := strings.Cut(strings.SplitN(parts[i].SQL, "\n", 2)[0], " ")
		return fmt.Sprintf("line %d: %.32q is a command of the sqlite3 program: %s", parts[i].Line, name, insteadOfShell(name))
	}
	return ""
}

// insteadOfShell reports what to write instead of a command.
func insteadOfShell(name string) string {
	switch name {
	case ".read":
		return "make the other file a migration of its own"
	case ".import", ".load", ".restore", ".open":
		return "write its rows as INSERT statements"
	}
	return "remove the line"
}

// sqliteNonTransactional names what SQLite refuses in a transaction, or does not do there without a word.
func sqliteNonTransactional(words []string) string {
	switch {
	case words == nil:
	case words[0] == "VACUUM":
		return "VACUUM"
	case len(words) > 1 && words[0] == "PRAGMA" && (words[1] == "JOURNAL_MODE" || words[1] == "AUTO_VACUUM" || words[1] == "PAGE_SIZE"):
		return "PRAGMA " + strings.ToLower(words[1])
	}
	return ""
}

// sqliteType knows the usual words of declarations. What is in a column need not be what was declared. Dates are texts or
// numbers there, as everybody likes.
func sqliteType(of string) ColumnType {
	name, _, _ := strings.Cut(strings.ToLower(of), "(")
	switch strings.TrimSpace(name) {
	case "integer", "int", "bigint", "smallint", "tinyint", "mediumint", "int2", "int8", "unsigned big int":
		return ColumnType{Kind: KindInteger, Dynamic: true}
	case "real", "double precision", "double", "float":
		return ColumnType{Kind: KindFloat, Dynamic: true}
	case "boolean", "bool":
		return ColumnType{Kind: KindBoolean, Dynamic: true}
	case "blob":
		return ColumnType{Kind: KindBinary, Dynamic: true}
	}
	return ColumnType{}
}
