package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

// postgresParams is the protocol's own limit: the number of arguments has 16 bits.
const postgresParams = 65535

// Postgres returns how PostgreSQL's SQL text and parameters are read; its engine adds CheckValue.
func Postgres() *Dialect {
	return &Dialect{
		DollarQuotes:   true,
		EscapeStrings:  true,
		NestedComments: true,
		ReturnEndsLine: true,
		MarkInNames:    true,
		MaxParams:      postgresParams,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, '$'), int64(n), 10)
		},
		ReadOnlyFirst: words("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE",
			"PREPARE TRANSACTION", "SET TRANSACTION", "SET LOCAL TRANSACTION", "SET SESSION TRANSACTION",
			"SET SESSION CHARACTERISTICS", "SET LOCAL SESSION", "SET SESSION SESSION"),
		ForbiddenFirst: words("PREPARE", "EXECUTE", "DEALLOCATE", "DISCARD", "LISTEN", "UNLISTEN", "LOAD", "COPY"),
		Countable: words("SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "DO", "CALL",
			"SET", "RESET", "SHOW", "LOCK", "NOTIFY", "EXPLAIN", "DECLARE", "FETCH", "MOVE", "CLOSE"),
		Foreign:          postgresForeign,
		Kind:             postgresType,
		NonTransactional: postgresNonTransactional,
		PartialEffects:   postgresPartialEffects,
		Cache:            NewCache(shapes),
	}
}

// postgresForeign finds what psql would do and no server does: its commands, which begin with a backslash, and COPY from the
// program's own input, after which the server waits for rows with its locks held. What comes first is reported: the rows
// behind a COPY are no SQL.
func postgresForeign(d *Dialect, script string, parts []Part) string {
	line, what := 0, ""
	for i := range parts {
		if what = copies(&parts[i]); what != "" {
			line = parts[i].Line
			break
		}
	}
	at := backslash(d, script)
	if at < 0 {
		if what == "" {
			return ""
		}
		return fmt.Sprintf("line %d: %s", line, what)
	}
	if n := 1 + strings.Count(script[:at], "\n"); what == "" || n < line {
		// A command of psql
		text := script[at:]
		end := 1
		for end < len(text) && (text[end] >= 'a' && text[end] <= 'z' || text[end] >= 'A' && text[end] <= 'Z' || text[end] == '_') {
			end++
		}
		if end == 1 { // such as \. and \!
			end = min(2, len(text))
		}
		name := strings.ToValidUTF8(text[:end], "")
		line, what = n, fmt.Sprintf("%.32s is a command of psql: %s", name, insteadOfPsql(name))
	}
	return fmt.Sprintf("line %d: %s", line, what)
}

const (
	// InsteadOfCopy is what to do without COPY … FROM STDIN.
	InsteadOfCopy = "write the rows as INSERT statements (pg_dump --inserts does), or load them by a job with params_from"
	copyToStdout  = "COPY … TO STDOUT: no client reads its rows; remove it"
)

// copies reports what is wrong with a COPY between the server and a client; "" for any other statement.
func copies(part *Part) string {
	if len(part.Words) == 0 || part.Words[0] != "COPY" {
		return ""
	}
	for i := 1; i < len(part.Words); i++ {
		switch part.Words[i-1] + " " + part.Words[i] {
		case "FROM STDIN":
			return "COPY … FROM STDIN: no client sends its rows; " + InsteadOfCopy
		case "TO STDOUT":
			return copyToStdout
		}
	}
	return ""
}

// backslash is the offset of the first one outside of quotes and comments, where no server knows it; -1 if there is none.
func backslash(d *Dialect, script string) int {
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		switch {
		case !ok:
			return -1
		case t.Kind == TokenOther && script[t.Start] == '\\':
			return t.Start
		}
	}
}

// insteadOfPsql reports what to write instead of a command.
func insteadOfPsql(name string) string {
	switch name {
	case `\restrict`, `\unrestrict`:
		return "pg_dump has written it; remove the line"
	case `\connect`, `\c`:
		return "migrations run in the database of the configuration; remove the line"
	case `\i`, `\ir`, `\include`, `\include_relative`:
		return "make the other file a migration of its own"
	case `\set`, `\unset`, `\gset`, `\getenv`, `\prompt`:
		return "write the value where the variable stands, and remove it"
	case `\if`, `\elif`, `\else`, `\endif`:
		return "write a condition as a DO block"
	case `\gexec`:
		return "write a DO block with EXECUTE"
	case `\copy`, `\.`:
		return InsteadOfCopy
	case `\g`, `\gx`, `\;`:
		return "end the statement with a semicolon"
	}
	return "remove it"
}

// postgresNonTransactional names what PostgreSQL refuses in a transaction.
func postgresNonTransactional(words []string) string {
	text := strings.Join(words, " ") + " "
	for _, opening := range []string{
		"VACUUM ", "CREATE DATABASE ", "DROP DATABASE ", "ALTER SYSTEM ", "CREATE TABLESPACE ", "DROP TABLESPACE ",
		"CREATE SUBSCRIPTION ", "DROP SUBSCRIPTION ", "REINDEX DATABASE ", "REINDEX SYSTEM ", "REINDEX SCHEMA ",
	} {
		if strings.HasPrefix(text, opening) {
			return strings.TrimSpace(opening)
		}
	}
	if what := concurrently(text); what != "" {
		return what + " CONCURRENTLY"
	}
	return ""
}

// concurrently names a statement that works CONCURRENTLY in several transactions of its own.
func concurrently(text string) string {
	if !strings.Contains(text, " CONCURRENTLY ") {
		return ""
	}
	for opening, what := range map[string]string{
		"CREATE INDEX CONCURRENTLY ": "CREATE INDEX", "CREATE UNIQUE INDEX CONCURRENTLY ": "CREATE INDEX",
		"DROP INDEX CONCURRENTLY ": "DROP INDEX", "REINDEX ": "REINDEX",
	} {
		if strings.HasPrefix(text, opening) {
			return what
		}
	}
	if strings.HasPrefix(text, "ALTER TABLE ") && strings.Contains(text, " DETACH PARTITION ") {
		return "DETACH PARTITION"
	}
	return ""
}

// postgresPartialEffects names what a statement that failed leaves behind.
func postgresPartialEffects(words []string) string {
	switch concurrently(strings.Join(words, " ") + " ") {
	case "CREATE INDEX", "DROP INDEX":
		return "an INVALID index, which has to be dropped"
	case "REINDEX":
		return "an INVALID index whose name ends in _ccnew or _ccold, which has to be dropped"
	case "DETACH PARTITION":
		return "a partition that is half detached (DETACH PARTITION … FINALIZE)"
	}
	return ""
}

// postgresType knows the names as format_type prints them.
func postgresType(of string) ColumnType {
	switch of {
	case "json", "jsonb":
		return ColumnType{Kind: KindJSON}
	case "bigint", "integer", "smallint":
		return ColumnType{Kind: KindInteger}
	case "double precision", "real":
		return ColumnType{Kind: KindFloat}
	case "boolean":
		return ColumnType{Kind: KindBoolean}
	case "date":
		return ColumnType{Kind: KindDate}
	case "timestamp without time zone":
		return ColumnType{Kind: KindTimestamp, Layouts: []string{"2006-01-02 15:04:05"}}
	case "timestamp with time zone":
		return ColumnType{Kind: KindInstant, Layouts: []string{
			"2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07:00:00",
		}}
	case "time without time zone":
		return ColumnType{Kind: KindTime}
	case "uuid":
		return ColumnType{Kind: KindUUID}
	case "bytea":
		return ColumnType{Kind: KindBinary}
	}
	return ColumnType{}
}
