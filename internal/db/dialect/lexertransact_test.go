package dialect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

// TestTransactKeywordsCannotBeHidden puts a keyword directly behind everything that T-SQL ends a token with: the text is
// refused, whether the keyword is seen or the text cannot be read for certain.
func TestTransactKeywordsCannotBeHidden(t *testing.T) {
	t.Parallel()
	before := []string{
		"0x", "0X", "0xAD", "0x1", "1", "1e", "1E", "1e5", "1e+", "1e-3", "1.", "1.5", "1.5e", ".5", ".5e", "1..", "007", "9_", "$", "$1", "$1.5",
		"$.5e", "£", "€", "¥", "₩", "¢", "₿", "\u00a0", "\u0085", "\u2028", "\u2029", "\u3000", "\u2003", "\u200b", "\u2060", "\ufeff", "\u180e",
		"\u00ad", "\x01", "\x1f", "\x7f", "\v", "\f", "\r", "\t", "\n", " ", "'a'", "N'a'", "[a]", "[a]]b]", `"a"`, `"a""b"`, "@x=1", "x:", "]", ")", "(",
		"/**/", "/*/**/*/", "--\n", "\\\n", "0x\\\n", "0x\\\r\nAD", "\\", ";", "+", "=", "%", "~", "\xff", "\xc2", "{", "}", "?", "::",
	}
	for _, keyword := range []string{"COMMIT", "RollBack", "SAVE", "TRAN"} {
		for _, b := range before {
			sql := "SELECT " + b + keyword
			require.NotEmpty(t, dialect.CheckText(sqlserver(), sql), "%q", sql)
			_, faults := dialect.Compile(sqlserver(), dialect.Statement{SQL: sql + " TRAN"})
			require.NotEmpty(t, faults, "%q", sql)
		}
	}
	for _, keyword := range []string{"INSERT", "DELETE", "EXEC", "UPDATE", "MERGE"} {
		for _, b := range before {
			sql := "SELECT " + b + keyword + " t"
			require.True(t, len(dialect.CheckReadOnly(sqlserver(), sql)) > 0 || len(dialect.CheckText(sqlserver(), sql)) > 0, "%q", sql)
		}
	}
}

// TestTransactLookalikesOfASCII refuses words that a collation may compare as equal to a keyword.
func TestTransactLookalikesOfASCII(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"COMM\u0131T", "comm\u0130t", "\uff23\uff2f\uff2d\uff2d\uff29\uff34", "ROLLBAC\u212a", "\u017fAVE"} {
		require.NotEmpty(t, dialect.CheckText(sqlserver(), "SELECT 1 "+sql), "%q", sql)
	}
}

// TestTransactClearTexts: what has one reading only is left to the server.
func TestTransactClearTexts(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"SELECT 1", "SELECT 1.5, .5, 1e5, 1E-3, 1.e1, 0xDEAD, 0x, $12.50", "SELECT größe, Ärger, 名前, имя_1 FROM straße", "SELECT '\u00a0£ 0xCOMMIT'",
		"SELECT [\u00a0COMMIT], \"£COMMIT\" /* \u00a0 0xROLLBACK */ -- £COMMIT", "SELECT a.b, t1.x, 1+1, (1)AS n, 5 AS e", "\ufeffSELECT 1",
		"SELECT @commit, @@ROWCOUNT, #t.x FROM #t", "SELECT CASE WHEN 1=1 THEN 2 END", "SELECT\v1\f", "SELECT n\u0303",
	} {
		require.Empty(t, dialect.CheckText(sqlserver(), sql), "%q", sql)
		require.Empty(t, dialect.CheckReadOnly(sqlserver(), strings.TrimPrefix(sql, "\ufeff")), "%q", sql)
	}
}

func TestTransactErrorsNameTheFix(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"SELECT 4711eX": "a number directly before a name: put a space between them",
		"SELECT\u00a01": "the character U+00A0 outside of quotes, which the server may not read as it is meant: write a space instead, " +
			"or put the name into [brackets]",
	} {
		faults := dialect.CheckText(sqlserver(), sql)
		require.Len(t, faults, 1, sql)
		require.Equal(t, want, faults[0].Message)
		require.Equal(t, contract.CodeSyntax, faults[0].Code)
	}
}
