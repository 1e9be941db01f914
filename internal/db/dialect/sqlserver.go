package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// serverParams is the most that the server takes with one request.
	serverParams = 2100
	// ownParams are those that the engine sends beside a statement's: the text around it, its declarations, the
	// statement and the declarations of its parameters.
	ownParams       = 4
	sqlserverParams = serverParams - ownParams
)

// SQLServer returns how SQL Server's SQL text and parameters are read; its engine adds CheckValue. The words of the tables
// are reserved in T-SQL, so that none of them can be an unquoted name.
func SQLServer() *Dialect {
	return &Dialect{
		Brackets:       true,
		NestedComments: true,
		QuestionMarks:  true,
		MaxParams:      sqlserverParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, "@p"...), int64(n), 10)
		},
		ReadOnlyFirst: words("SELECT", "WITH", "VALUES"),
		// A block, BEGIN … END, is no transaction, but TRY … CATCH would hide an error after which it cannot commit.
		TransactionVerb: words("BEGIN", "COMMIT", "ROLLBACK", "SAVE", "SAVEPOINT"),
		TransactionWord: words("COMMIT", "ROLLBACK", "SAVE", "TRAN", "TRANSACTION"),
		WriteWord: words("INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "EXEC", "EXECUTE", "CREATE", "ALTER", "DROP",
			"TRUNCATE", "GRANT", "REVOKE", "DENY", "BACKUP", "RESTORE", "BULK", "WRITETEXT", "UPDATETEXT", "DBCC",
			"KILL", "SHUTDOWN", "RECONFIGURE", "SETUSER", "USE", "DECLARE", "WAITFOR"),
		WritePhrase: []string{"NEXT", "VALUE", "FOR"},
		ForbiddenFirst: words("USE", "EXECUTE AS", "EXEC AS", "REVERT", "SETUSER", "SHUTDOWN", "KILL", "RECONFIGURE",
			"BACKUP", "RESTORE", "DBCC", "BULK"),
		Countable: words("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "SET", "DECLARE", "IF", "WHILE"),
		// Several statements may stand in one text. But for NOCOUNT and the functions these words are reserved.
		Uncountable: words("EXEC", "EXECUTE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "DENY", "BULK", "BACKUP",
			"RESTORE", "DBCC", "WRITETEXT", "UPDATETEXT", "OPENQUERY", "OPENROWSET", "OPENDATASOURCE", "NOCOUNT"),
		NestedWrites:     true,
		AutocommitVerbs:  words("BACKUP", "DBCC"),
		Separator:        "GO",
		Foreign:          sqlserverForeign,
		Kind:             sqlserverType,
		NonTransactional: sqlserverNonTransactional,
		PartialEffects:   func([]string) string { return "the earlier effects of its batch" },
		Batches:          true,
		Snapshot:         true,
		Transact:         true,
		Cache:            NewCache(shapes),
	}
}

// sqlserverForeign finds a command of sqlcmd: no line of T-SQL starts with a colon and a name, or with two exclamation marks.
func sqlserverForeign(d *Dialect, script string, _ []Part) string {
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok {
			return ""
		}
		rest := script[t.Start:]
		command := t.Kind == TokenNamed || t.Kind == TokenOther && strings.HasPrefix(rest, "!!")
		before := script[strings.LastIndexAny(script[:t.Start], "\r\n")+1 : t.Start]
		if !command || strings.TrimSpace(before) != "" {
			continue
		}
		name := script[t.Start:t.End]
		if t.Kind == TokenOther {
			name = "!!"
		}
		return fmt.Sprintf("line %d: %.32q is a command of sqlcmd: %s", 1+strings.Count(script[:t.Start], "\n"), name, insteadOfSqlcmd(name))
	}
}

// insteadOfSqlcmd reports what to write instead of a command.
func insteadOfSqlcmd(name string) string {
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

// sqlserverNonTransactional names what SQL Server refuses in a transaction.
func sqlserverNonTransactional(words []string) string {
	text := strings.Join(words, " ") + " "
	for _, opening := range []string{
		"CREATE DATABASE ", "DROP DATABASE ", "ALTER DATABASE ", "BACKUP ", "RESTORE ", "RECONFIGURE ", "KILL ",
		"CREATE FULLTEXT ", "ALTER FULLTEXT ", "DROP FULLTEXT ",
	} {
		if strings.HasPrefix(text, opening) && !strings.HasPrefix(text, "ALTER DATABASE SCOPED ") && !strings.HasPrefix(text, "CREATE DATABASE SCOPED ") &&
			!strings.HasPrefix(text, "DROP DATABASE SCOPED ") && !strings.HasPrefix(text, "CREATE DATABASE AUDIT ") {
			return strings.TrimSpace(opening)
		}
	}
	return ""
}

// sqlserverType knows the names that the engine shows.
func sqlserverType(of string) ColumnType {
	switch of {
	case "bigint", "int", "smallint", "tinyint":
		return ColumnType{Kind: KindInteger}
	case "float", "real":
		return ColumnType{Kind: KindFloat}
	case "bit":
		return ColumnType{Kind: KindBoolean}
	case "date":
		return ColumnType{Kind: KindDate}
	case "datetime", "datetime2", "smalldatetime":
		return ColumnType{Kind: KindTimestamp, Layouts: []string{"2006-01-02T15:04:05"}}
	case "datetimeoffset":
		return ColumnType{Kind: KindInstant, Layouts: []string{"2006-01-02T15:04:05-07:00"}}
	case "time":
		return ColumnType{Kind: KindTime}
	case "uniqueidentifier":
		return ColumnType{Kind: KindUUID}
	case "varbinary", "binary", "image":
		return ColumnType{Kind: KindBinary}
	}
	return ColumnType{}
}
