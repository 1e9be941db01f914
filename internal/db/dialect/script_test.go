package dialect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

func TestSplitStatements(t *testing.T) {
	t.Parallel()
	script := "\ufeff-- head\n/* more */\nCREATE TABLE a (id int, -- the key; of it\n  note text DEFAULT ';');\n\n" +
		"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$\nBEGIN\n  PERFORM 1; RETURN 2;\nEND;\n$body$;;\n" +
		"CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;\n-- end\n" +
		"create unique index concurrently \"x;y\" on a (id)"
	parts := dialect.Split(postgres(), script)
	require.Len(t, parts, 4)
	require.Equal(t, "CREATE TABLE a (id int, -- the key; of it\n  note text DEFAULT ';')", parts[0].SQL)
	require.Equal(t, []int{3, 6, 11, 13}, []int{parts[0].Line, parts[1].Line, parts[2].Line, parts[3].Line})
	require.Equal(t, []string{"CREATE", "TABLE", "A"}, parts[0].Words, "what stands in parentheses is no word of the statement")
	require.True(t, strings.HasSuffix(parts[1].SQL, "$body$"))
	require.True(t, strings.HasSuffix(parts[2].SQL, "SELECT 2; END"))
	require.Equal(t, "CREATE UNIQUE INDEX CONCURRENTLY ON A", strings.Join(parts[3].Words, " "))
	require.Equal(t, "CREATE UNIQUE", parts[3].Verb(words("CREATE", "CREATE UNIQUE", "UNIQUE")))
	require.Equal(t, []string{"head", "more"}, dialect.Head(postgres(), script))
	for _, part := range parts {
		require.Equal(t, 1, part.Times)
	}
}

func TestSplitTriggers(t *testing.T) {
	t.Parallel()
	parts := dialect.Split(sqlite(), "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT 3; END;\nSELECT 4;")
	require.Len(t, parts, 2)
	require.Equal(t, 2, parts[1].Line)
}

func TestSplitBatches(t *testing.T) {
	t.Parallel()
	script := "-- kept: the server keeps a procedure's text\r\nCREATE PROCEDURE p AS\r\nSELECT 1; SELECT 'x\r\nGO\r\n';\r\n" +
		"go\r\n/*\nGO\n*/\nGO\nINSERT INTO t VALUES (1); SELECT go FROM t\n  Go 5  \nSELECT 2\nGO 0\nSELECT 3\nGO 99999999999\n" +
		"goto done; done: SELECT 4"
	parts := dialect.Split(sqlserver(), script)
	require.Len(t, parts, 5)
	require.True(t, strings.HasPrefix(parts[0].SQL, "-- kept"))
	require.True(t, strings.HasSuffix(parts[0].SQL, "GO\r\n';"))
	require.Equal(t, "INSERT INTO t VALUES (1); SELECT go FROM t", parts[1].SQL)
	require.Equal(t, []int{1, 5, 0, 0, 1}, []int{parts[0].Times, parts[1].Times, parts[2].Times, parts[3].Times, parts[4].Times})
	require.Equal(t, []int{1, 11, 13, 15, 17}, []int{parts[0].Line, parts[1].Line, parts[2].Line, parts[3].Line, parts[4].Line})
}

func TestNothingToSplit(t *testing.T) {
	t.Parallel()
	for _, d := range []*dialect.Dialect{postgres(), sqlite(), sqlserver()} {
		require.Empty(t, dialect.Split(d, ""))
		require.Empty(t, dialect.Split(d, " -- a comment\n/* another */ ; ;\n"))
	}
}

// TestReturnInComment: a carriage return ends a comment where the server says so; elsewhere it is found.
func TestReturnInComment(t *testing.T) {
	t.Parallel()
	pg := postgres()
	pg.ReturnEndsLine = true
	for _, c := range []struct {
		d      *dialect.Dialect
		script string
		parts  int
		stray  int
	}{
		{pg, "-- a\rSELECT 1;\r-- b\rSELECT 2", 2, 0},
		{pg, "-- a\r\nSELECT 1; -- b\r", 1, 0},
		{pg, "SELECT 1 -- ;\r; SELECT 2", 2, 0},
		{sqlite(), "SELECT 1;\n-- a\rSELECT 2;\nSELECT 3", 2, 2},
		{sqlite(), "-- a\r\nSELECT 1;\r-- b\r\n", 1, 0},
		{sqlite(), "-- a\r\r\nSELECT 1", 1, 1},
		{sqlite(), "SELECT '--\r', /* --\r */ 1", 1, 0},
		{sqlserver(), "-- a\rGO\nSELECT 2", 1, 1},
	} {
		require.Len(t, dialect.Split(c.d, c.script), c.parts, c.script)
		require.Equal(t, c.stray, dialect.StrayReturn(c.d, c.script), c.script)
	}
	out, faults := dialect.Compile(pg, dialect.Statement{SQL: "SELECT -- :a\r:b", Params: dialect.Params{Named: map[string]dialect.Value{"b": number("1")}}})
	require.Empty(t, faults)
	require.Equal(t, "SELECT -- :a\r$1", out.SQL)
}

func TestUnfinished(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"SELECT 1; /* open": "line 1: a comment is not closed", "\n/*/": "line 2: a comment is not closed", "/* /* */": "line 1: a comment is not closed",
		"'a": "line 1: a string is not closed", "E'a\\'": "line 1: a string is not closed", "'a''": "line 1: a string is not closed", `"a`: "line 1: a quoted name is not closed",
		"$a$ $b$": "line 1: a dollar quote is not closed", "/* a */": "", "'a'": "", "'a''b'": "", "E'\\''": "", `"a"`: "", "$$a$$": "", "-- open": "", "a$$": "", "E'a'\n": "", "": "",
	} {
		require.Equal(t, want, dialect.Unfinished(postgres(), script), script)
	}
	require.Empty(t, dialect.Unfinished(sqlite(), "SELECT [a]"))
	require.Equal(t, "line 1: a quoted name is not closed", dialect.Unfinished(sqlite(), "SELECT [a"))
}
