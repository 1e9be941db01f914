package dialect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

func TestCompile(t *testing.T) {
	t.Parallel()
	pg, lite, ms := postgres(), sqlite(), sqlserver()
	named := func(pairs ...string) dialect.Params {
		p := dialect.Params{Named: map[string]dialect.Value{}}
		for _, name := range pairs {
			p.Named[name] = text("<" + name + ">")
		}
		return p
	}
	list := func(n int) dialect.Params {
		p := dialect.Params{List: []dialect.Value{}}
		for i := range n {
			p.List = append(p.List, text(fmt.Sprintf("<%d>", i+1)))
		}
		return p
	}
	for _, tc := range []struct {
		name   string
		d      *dialect.Dialect
		sql    string
		params dialect.Params
		want   string
		args   string
	}{
		{"no parameters", pg, "SELECT 1;", dialect.Params{}, "SELECT 1;", ""},
		{"named", pg, "SELECT :a, :b::int, :a", named("a", "b"), "SELECT $1, $2::int, $1", "<a><b>"},
		{"named elsewhere", lite, "SELECT :b, :a, :b", named("a", "b"), "SELECT ?1, ?2, ?1", "<b><a>"},
		{"names differ in case", pg, "SELECT :a, :A", named("a", "A"), "SELECT $1, $2", "<a><A>"},
		{
			"nothing inside quotes", pg, `SELECT ':a', ":a", $$:a$$, E'\':a' /* :a */, :a -- :a`, named("a"),
			`SELECT ':a', ":a", $$:a$$, E'\':a' /* :a */, $1 -- :a`, "<a>",
		},
		{"slices and assignments", pg, "SELECT x[lo:hi], f(n := :a)", named("a"), "SELECT x[lo:hi], f(n := $1)", "<a>"},
		{"operators with question marks", pg, "SELECT a ? :a, b ?| c", named("a"), "SELECT a ? $1, b ?| c", "<a>"},
		{"list", pg, "SELECT $2, $1, $2", list(2), "SELECT $2, $1, $2", "<1><2>"},
		{"list on SQLite", lite, "SELECT $2, $1, $2", list(2), "SELECT ?2, ?1, ?2", "<1><2>"},
		{"list on SQL Server", ms, "SELECT $2, $1", list(2), "SELECT @p2, @p1", "<1><2>"},
		{"a list leaves names alone", pg, "SELECT a[1 :n], $1", list(1), "SELECT a[1 :n], $1", "<1>"},
		{"an empty list leaves names alone", pg, "SELECT a[1 :n]", list(0), "SELECT a[1 :n]", ""},
		{"question marks", lite, "SELECT ?, ?", list(2), "SELECT ?1, ?2", "<1><2>"},
		{"numbered question marks", lite, "SELECT ?2, $1", list(2), "SELECT ?2, ?1", "<1><2>"},
		{"question marks that touch words", ms, "WHERE a=?AND b LIKE?", list(2), "WHERE a=@p1 AND b LIKE @p2", "<1><2>"},
		{"empty statements around", pg, "; /* */; (SELECT 1); ; -- end", dialect.Params{}, "; /* */; (SELECT 1); ; -- end", ""},
		{"a line break of two characters", pg, "-- a\r\nSELECT 1 -- b\r", dialect.Params{}, "-- a\r\nSELECT 1 -- b\r", ""},
		{
			"trigger", lite, "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT 3; END;",
			dialect.Params{},
			"CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT 3; END;", "",
		},
		{
			"function body", pg, "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
			dialect.Params{},
			"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", "",
		},
		{
			"empty function body", pg, "CREATE PROCEDURE f() BEGIN ATOMIC END",
			dialect.Params{},
			"CREATE PROCEDURE f() BEGIN ATOMIC END", "",
		},
		{
			"rule", pg, "CREATE RULE r AS ON INSERT TO t DO (SELECT f(1); SELECT 2)",
			dialect.Params{},
			"CREATE RULE r AS ON INSERT TO t DO (SELECT f(1); SELECT 2)", "",
		},
		{
			"verbs that are names", pg, `SELECT commit, "BEGIN" FROM rollback`,
			dialect.Params{},
			`SELECT commit, "BEGIN" FROM rollback`, "",
		},
		{"SET of something else", pg, "SET LOCAL work_mem = 1", dialect.Params{}, "SET LOCAL work_mem = 1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, faults := dialect.Compile(tc.d, dialect.Statement{SQL: tc.sql, Params: tc.params})
			require.Empty(t, faults)
			require.Equal(t, tc.want, got.SQL)
			var args strings.Builder
			for _, v := range got.Args {
				args.WriteString(v.Text)
			}
			require.Equal(t, tc.args, args.String())
		})
	}
}

// seen shows faults as path and code, one a line.
func seen(faults []contract.Fault) string {
	var out strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&out, "%s %s\n", f.Path, f.Code)
	}
	return strings.TrimSpace(out.String())
}

func TestCompileFaults(t *testing.T) {
	t.Parallel()
	pg, lite, ms := postgres(), sqlite(), sqlserver()
	none := dialect.Params{}
	a := dialect.Params{Named: map[string]dialect.Value{"a": text("1")}}
	one := dialect.Params{List: []dialect.Value{text("1")}}
	three := dialect.Params{List: []dialect.Value{text("1"), text("2"), text("3")}}
	for _, tc := range []struct {
		name   string
		d      *dialect.Dialect
		sql    string
		params dialect.Params
		want   string
	}{
		{"nothing", pg, "", none, "sql syntax_error"},
		{"only comments", pg, " ; -- SELECT 1\n/* x */;", none, "sql syntax_error"},
		{"two statements", pg, "SELECT 1; SELECT 2", none, "sql multiple_statements"},
		{"two statements, the second in parentheses", pg, "SELECT 1;(SELECT 2)", none, "sql multiple_statements"},
		{"behind a comment that does not nest", lite, "SELECT 1 /* /* */; SELECT 2 -- */", none, "sql multiple_statements"},
		{
			"behind a trigger", lite, "CREATE TRIGGER begin AFTER INSERT ON t BEGIN SELECT 1; END; COMMIT", none,
			"sql multiple_statements",
		},
		{"behind no trigger", lite, "CREATE TABLE trigger(a); COMMIT", none, "sql multiple_statements"},
		{"trigger in the wrong place", lite, "CREATE (TRIGGER BEGIN; COMMIT", none, "sql multiple_statements"},
		{"behind a trigger without a body", lite, "CREATE TRIGGER x ON t; COMMIT", none, "sql multiple_statements"},
		{"semicolon in parentheses", lite, "SELECT (1; COMMIT)", none, "sql multiple_statements"},
		{
			"behind a function", pg, "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END; SELECT 2", none,
			"sql multiple_statements",
		},
		{"body that is none", pg, "CREATE FUNCTION f(begin int) RETURN 1; SELECT 2", none, "sql multiple_statements"},
		{"behind a rule", pg, "CREATE RULE r DO (SELECT 1; SELECT 2); SELECT 3", none, "sql multiple_statements"},
		{"commit", pg, "COMMIT", none, "sql transaction_control"},
		{"commit in lower case", pg, "commit and chain", none, "sql transaction_control"},
		{"commit behind comments", pg, "/* x */ -- y\n ; COMMIT", none, "sql transaction_control"},
		{"commit behind parentheses", pg, "((COMMIT", none, "sql transaction_control"},
		{"commit behind a byte order mark", lite, "\ufeffCOMMIT", none, "sql transaction_control"},
		{"commit first of two", pg, "COMMIT; SELECT 1", none, "sql multiple_statements\nsql transaction_control"},
		{"two words", pg, "set /* x */\n transaction READ WRITE", none, "sql transaction_control"},
		{"three words", pg, "SET LOCAL TRANSACTION READ WRITE", none, "sql transaction_control"},
		{
			"session characteristics", pg, "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", none,
			"sql transaction_control",
		},
		{"prepare", pg, "PREPARE x AS SELECT 1", none, "sql forbidden_statement"},
		{
			"prepare transaction", pg, "PREPARE TRANSACTION 'x'", none,
			"sql transaction_control\nsql forbidden_statement",
		},
		{"begin tran", ms, "BEGIN TRAN", none, "sql transaction_control"},
		{"forbidden", pg, "COPY t TO STDOUT", none, "sql forbidden_statement"},
		{"NUL", pg, "SELECT '\x00'", none, "sql syntax_error"},
		{"carriage return in a comment", lite, "--\rSELECT\nCOMMIT", none, "sql transaction_control\nsql syntax_error"},
		{"a placeholder would open a dollar quote", pg, "SELECT $:a '$$ ; COMMIT; --'", a, "params.a parameter_error"},
		{"missing", pg, "SELECT :b, :a, :c", a, "params.b parameter_error\nparams.c parameter_error"},
		{"missing without parameters", pg, "SELECT :b", none, "params.b parameter_error"},
		{"left over", pg, "SELECT 1", a, "params.a parameter_error"},
		{"another name", pg, "SELECT :b", a, "params.b parameter_error\nparams.a parameter_error"},
		{
			"a name that is none", pg, "SELECT 1",
			dialect.Params{Named: map[string]dialect.Value{"a\"b c": text("")}},
			`params["a\"b c"] parameter_error`,
		},
		{"missing positions", pg, "SELECT $1, $2, $3", one, "params[1] parameter_error\nparams[2] parameter_error"},
		{"missing list", pg, "SELECT $1", none, "params[0] parameter_error"},
		{"left over positions", pg, "SELECT $1", three, "params[1] parameter_error\nparams[2] parameter_error"},
		{"gap", pg, "SELECT $1, $3", three, "params[1] parameter_error"},
		{"gap and missing", pg, "SELECT $3", one, "params[0] parameter_error\nparams[1] parameter_error\n" +
			"params[2] parameter_error"},
		{"no such position", pg, "SELECT $0, $65536, $99999999999999999999", none, "sql parameter_error"},
		{"question marks missing", lite, "SELECT ?, ?", one, "params[1] parameter_error"},
		{"named and positional", pg, "SELECT :a, $1", a, "sql parameter_error"},
		{"named and positional without any", pg, "SELECT :a, $1", none, "sql parameter_error"},
		{"named and question marks", lite, "SELECT :a, ?", a, "sql parameter_error"},
		{"both kinds of positions", lite, "SELECT ?, $1", one, "sql parameter_error"},
		{"both kinds of parameters", pg, "SELECT :a", dialect.Params{Named: a.Named, List: one.List}, "params parameter_error"},
		{"a list for names", pg, "SELECT :a", one, "sql parameter_error"},
		{"names beside a list on SQLite", lite, "SELECT ?, :a", one, "sql parameter_error"},
		{"variables of SQLite", lite, "SELECT @a, $b", none, "sql parameter_error"},
		{"a variable that hides a quote", lite, "SELECT :::b(');COMMIT;--')", none, "sql parameter_error"},
		{
			"too many", ms, "SELECT 1" + strings.Repeat(",?", 2101),
			dialect.Params{List: make([]dialect.Value, 2101)},
			"params parameter_error",
		},
		{
			"untyped list", pg, "SELECT :a",
			dialect.Params{Named: map[string]dialect.Value{"a": {Kind: dialect.Array, Text: "[1]"}}},
			"params.a parameter_error",
		},
		{
			"untyped object", pg, "SELECT $1",
			dialect.Params{List: []dialect.Value{{Kind: dialect.Object, Text: "{}"}}},
			"params[0] parameter_error",
		},
		{"NUL in a value", pg, "SELECT $1", dialect.Params{List: []dialect.Value{text("a\x00b")}}, "params[0] parameter_error"},
		{
			"all together", pg, "COMMIT :a; SELECT :b",
			dialect.Params{Named: map[string]dialect.Value{
				"a": {Kind: dialect.Array, Text: "[]"}, "z": text(""),
			}},
			"sql multiple_statements\nsql transaction_control\nparams.a parameter_error\nparams.b parameter_error\n" +
				"params.z parameter_error",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, faults := dialect.Compile(tc.d, dialect.Statement{SQL: tc.sql, Params: tc.params})
			require.Equal(t, tc.want, seen(faults))
			require.Nil(t, got)
		})
	}
}

func TestCompileChecksTypedValues(t *testing.T) {
	t.Parallel()
	d := postgres()
	d.CheckValue = func(v dialect.Value) string {
		if v.Type == "nonsense" {
			return "there is no such type"
		}
		return ""
	}
	_, faults := dialect.Compile(d, dialect.Statement{SQL: "SELECT :a, :b", Params: dialect.Params{Named: map[string]dialect.Value{
		"a": {Kind: dialect.String, Type: "nonsense", Text: "secret"}, "b": {Kind: dialect.String, Type: "uuid"},
	}}})
	require.Equal(t, []contract.Fault{{Path: "params.a", Code: contract.CodeParameter, Message: "there is no such type"}}, faults)
}

func TestCompileErrorShowsTheTypeSyntax(t *testing.T) {
	t.Parallel()
	_, faults := dialect.Compile(postgres(), dialect.Statement{SQL: "SELECT $1, $2", Params: dialect.Params{List: []dialect.Value{
		{Kind: dialect.Array, Text: "[1]"}, {Kind: dialect.Object, Text: "{}"},
	}}})
	require.Len(t, faults, 2)
	require.Contains(t, faults[0].Message, `{"type": "int4[]", "value": [1, 2]}`)
	require.Contains(t, faults[1].Message, `{"type": "jsonb", "value": {…}}`)
}

func TestCompileFaultsHoldNoValueAndAreBounded(t *testing.T) {
	t.Parallel()
	params := dialect.Params{Named: map[string]dialect.Value{}}
	for i := range 500 {
		params.Named[fmt.Sprintf("name%03d", i)] = text("canary")
	}
	params.Named[strings.Repeat("ä", 5000)] = text("canary\x00")
	_, faults := dialect.Compile(postgres(), dialect.Statement{SQL: "SELECT :missing", Params: params})
	require.Len(t, faults, 101)
	for _, f := range faults {
		require.NotContains(t, f.Message, "canary")
		require.Less(t, len(f.Path), 150)
	}
	require.Equal(t, "403 more faults", faults[100].Message)
}

func TestCompileFaultsAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	d := postgres()
	d.Cache = dialect.NewCache(1 << 20)
	for range 3 {
		_, faults := dialect.Compile(d, dialect.Statement{SQL: "COMMIT"})
		require.Equal(t, "sql", faults[0].Path)
		faults[0].Path = "statements[7]." + faults[0].Path
	}
}

func TestFirstWord(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"select 1": "SELECT", " /* a */ ((\n--b\nWith x": "WITH", ";;COMMIT": "COMMIT", "": "", "-- SELECT": "",
		`"SELECT" 1`: "", "1 SELECT": "", ":a SELECT": "", "SELECT(1)": "SELECT", "SELECT;COMMIT": "SELECT",
		"Größe": "GRößE", "\ufeffshow x": "SHOW", "'SELECT' x": "", strings.Repeat("a", 1000): strings.Repeat("A", 64),
	} {
		require.Equal(t, want, dialect.FirstWord(postgres(), sql), sql)
	}
}

func TestCheckReadOnly(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"SELECT 1", "(SELECT 1) UNION (SELECT 2)", "/* x */ with a AS (SELECT 1) TABLE a", "show all"} {
		require.Empty(t, dialect.CheckReadOnly(postgres(), sql), sql)
	}
	for _, sql := range []string{"", "DELETE FROM t", "(DELETE FROM t)", "/* SELECT */ UPDATE t SET a = 1", "'SELECT'", "SELECTED"} {
		require.Equal(t, "sql read_only_violation", seen(dialect.CheckReadOnly(postgres(), sql)), sql)
	}
}
