package sqlserver

import (
	"fmt"
	"strconv"
	"strings"

	"dbrunner/internal/db/dialect"
)

const (
	// serverParams is the most that the server takes with one request.
	serverParams = 2100
	// ownParams are those that the engine sends beside a statement's: the text around it, its declarations, the
	// statement and the declarations of its parameters.
	ownParams = 4
	maxParams = serverParams - ownParams
)

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

// newDialect: the words of the tables are reserved in T-SQL, so that none of them can be an unquoted name.
func newDialect() *dialect.Dialect {
	return &dialect.Dialect{
		Brackets:       true,
		NestedComments: true,
		QuestionMarks:  true,
		MaxParams:      maxParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, "@p"...), int64(n), 10)
		},
		ReadOnlyFirst: words("SELECT", "WITH", "VALUES"),
		// A block, BEGIN … END, is no transaction, but TRY … CATCH would hide an error that has doomed it.
		TransactionVerb: words("BEGIN", "COMMIT", "ROLLBACK", "SAVE", "SAVEPOINT"),
		TransactionWord: words("COMMIT", "ROLLBACK", "SAVE", "TRAN", "TRANSACTION"),
		WriteWord: words("INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "EXEC", "EXECUTE", "CREATE", "ALTER", "DROP",
			"TRUNCATE", "GRANT", "REVOKE", "DENY", "BACKUP", "RESTORE", "BULK", "WRITETEXT", "UPDATETEXT", "DBCC",
			"KILL", "SHUTDOWN", "RECONFIGURE", "SETUSER", "USE", "DECLARE", "WAITFOR"),
		ForbiddenFirst: words("USE", "EXECUTE AS", "EXEC AS", "REVERT", "SETUSER", "SHUTDOWN", "KILL", "RECONFIGURE",
			"BACKUP", "RESTORE", "DBCC", "BULK"),
		AutocommitVerbs: words("BACKUP", "DBCC"),
		Separator:       "GO",
		Foreign:         foreign,
		Batches:         true,
		Snapshot:        true,
		Transact:        true,
		CheckValue:      checkValue,
		Cache:           dialect.NewCache(shapes),
	}
}

// foreign finds a command of sqlcmd: no line of T-SQL begins with a colon and a name, or with two exclamation marks.
func foreign(d *dialect.Dialect, script string, _ []dialect.Part) string {
	lexer := dialect.NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok {
			return ""
		}
		rest := script[t.Start:]
		command := t.Kind == dialect.TokenNamed || t.Kind == dialect.TokenOther && strings.HasPrefix(rest, "!!")
		before := script[strings.LastIndexAny(script[:t.Start], "\r\n")+1 : t.Start]
		if !command || strings.TrimSpace(before) != "" {
			continue
		}
		name := script[t.Start:t.End]
		if t.Kind == dialect.TokenOther {
			name = "!!"
		}
		return fmt.Sprintf("line %d: %.32q is a command of sqlcmd: %s", 1+strings.Count(script[:t.Start], "\n"), name, insteadOf(name))
	}
}

// insteadOf says what to write instead of a command.
func insteadOf(name string) string {
	switch strings.ToLower(name) {
	case ":r":
		return "make the other file a migration of its own"
	case ":setvar":
		return "write the value where $(name) stands, and remove the line"
	case ":connect":
		return "migrations run in the database of the configuration; remove the line"
	}
	return "remove the line"
}
