package dialect_test

import (
	"strconv"

	"dbrunner/internal/db/dialect"
)

// The dialects of these tests: as the engines have them where the text is concerned.

func words(list ...string) map[string]bool {
	table := make(map[string]bool, len(list))
	for _, w := range list {
		table[w] = true
	}
	return table
}

func numbered(prefix string) func([]byte, int) []byte {
	return func(dst []byte, n int) []byte { return strconv.AppendInt(append(dst, prefix...), int64(n), 10) }
}

func postgres() *dialect.Dialect {
	return &dialect.Dialect{
		DollarQuotes: true, EscapeStrings: true, NestedComments: true,
		MaxParams: 65535, Placeholder: numbered("$"),
		ReadOnlyFirst: words("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE",
			"PREPARE TRANSACTION", "SET TRANSACTION", "SET LOCAL TRANSACTION", "SET SESSION TRANSACTION",
			"SET SESSION CHARACTERISTICS"),
		ForbiddenFirst: words("PREPARE", "EXECUTE", "DEALLOCATE", "DISCARD", "LISTEN", "LOAD", "COPY"),
	}
}

func sqlite() *dialect.Dialect {
	return &dialect.Dialect{
		Brackets: true, Backticks: true, QuestionMarks: true, Sigils: "@#$:",
		MaxParams: 32766, Placeholder: numbered("?"),
		ReadOnlyFirst:   words("SELECT", "WITH", "VALUES", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"),
		ForbiddenFirst:  words("ATTACH", "DETACH", "PRAGMA", "VACUUM"),
	}
}

func sqlserver() *dialect.Dialect {
	return &dialect.Dialect{
		Brackets: true, NestedComments: true, QuestionMarks: true,
		MaxParams: 2100, Placeholder: numbered("@p"),
		ReadOnlyFirst:   words("SELECT", "WITH"),
		TransactionVerb: words("BEGIN", "COMMIT", "ROLLBACK", "SAVE"),
		TransactionWord: words("COMMIT", "ROLLBACK", "SAVE", "TRAN", "TRANSACTION"),
		WriteWord:       words("INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "EXEC", "EXECUTE"),
		WritePhrase:     []string{"NEXT", "VALUE", "FOR"},
		Separator:       "GO", Batches: true, Snapshot: true, Transact: true,
	}
}

func text(s string) dialect.Value   { return dialect.Value{Kind: dialect.String, Text: s} }
func number(s string) dialect.Value { return dialect.Value{Kind: dialect.Number, Text: s} }
