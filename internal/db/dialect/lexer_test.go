package dialect_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

// tokenMarks shows a text's tokens, one character per kind.
var tokenMarks = map[dialect.TokenKind]string{
	dialect.TokenSpace: "_", dialect.TokenComment: "c", dialect.TokenWord: "w", dialect.TokenNumber: "d", dialect.TokenString: "s",
	dialect.TokenName: "n", dialect.TokenDollar: "D", dialect.TokenNamed: "p", dialect.TokenPositional: "P", dialect.TokenQuestion: "?",
	dialect.TokenCast: "t", dialect.TokenSemicolon: ";", dialect.TokenOther: ".", dialect.TokenUnclear: "!",
}

func lex(d *dialect.Dialect, sql string) (marks string, tokens []string) {
	l := dialect.NewLexer(d, sql)
	for {
		t, ok := l.Next()
		if !ok {
			return marks, tokens
		}
		marks += tokenMarks[t.Kind]
		tokens = append(tokens, sql[t.Start:t.End])
	}
}

func TestLexer(t *testing.T) {
	t.Parallel()
	pg, lite, ms := postgres(), sqlite(), sqlserver()
	for _, tc := range []struct {
		name string
		d    *dialect.Dialect
		sql  string
		want string // the tokens, with ¦ between
		kind string
	}{
		{"empty", pg, "", "", ""},
		{"words and numbers", pg, "SELECT a1, 12.5", "SELECT¦ ¦a1¦,¦ ¦12¦.¦5", "w_w._d.d"},
		{"name beyond ASCII", pg, "größe", "größe", "w"},
		{"string", pg, "'a''b'x", "'a''b'¦x", "sw"},
		{"no backslash in a plain string", pg, `'a\'b`, `'a\'¦b`, "sw"},
		{"string with backslash", pg, `e'a\'b''c'd`, `e'a\'b''c'¦d`, "sw"},
		{"backslash at the end", pg, `E'a\`, `E'a\`, "s"},
		{"no such strings elsewhere", lite, `E'a\'b`, `E¦'a\'¦b`, "wsw"},
		{"e is the end of a longer name", pg, `name'a\'b`, `name¦'a\'¦b`, "wsw"},
		{"e behind a number", pg, `1E'a\'b'`, `1¦E'a\'b'`, "ds"},
		{"continued string", pg, "E'a' \n 'b\\'c' d", "E'a' \n 'b\\'c'¦ ¦d", "s_w"},
		{"continued behind a comment", pg, "E'a'--x\n'b\\''d", "E'a'--x\n'b\\''¦d", "sw"},
		{"not continued behind a comment that may end earlier", pg, "E'a'--\ry\n'b\\' c", "E'a'¦--\ry¦\n¦'b\\'¦ ¦c", "sc_s_w"},
		{"not continued on one line", pg, `E'a' 'b\'c`, `E'a'¦ ¦'b\'¦c`, "s_sw"},
		{"not continued behind a block comment", pg, "E'a'/*\n*/'b\\'c", "E'a'¦/*\n*/¦'b\\'¦c", "scsw"},
		{"open string", pg, "'a''", "'a''", "s"},
		{"quoted names", pg, `"a""b""c"`, `"a""b""c"`, "n"},
		{"open quoted name", pg, `x"a`, `x¦"a`, "wn"},
		{"brackets", ms, "[a]]b]c", "[a]]b]¦c", "nw"},
		{"brackets are subscripts", pg, "a['x]']", "a¦[¦'x]'¦]", "w.s."},
		{"backticks", lite, "`a``b`c", "`a``b`¦c", "nw"},
		{"no backticks", pg, "`a`", "`¦a¦`", ".w."},
		{"line comment", pg, "a--b'\nc", "a¦--b'¦\n¦c", "wc_w"},
		{"line comment at the end", pg, "--b", "--b", "c"},
		{"minus", pg, "a-b - -c", "a¦-¦b¦ ¦-¦ ¦-¦c", "w.w_._.w"},
		{"block comment", pg, "a/*'*/b", "a¦/*'*/¦b", "wcw"},
		{"nested comment", pg, "/* /* */ */b", "/* /* */ */¦b", "cw"},
		{"comment that does not nest", lite, "/* /* */b", "/* /* */¦b", "cw"},
		{"open comment", pg, "a/*/b", "a¦/*/b", "wc"},
		{"open nested comment", pg, "/*/**/b", "/*/**/b", "c"},
		{"stars", pg, "/***/b", "/***/¦b", "cw"},
		{"dollar quote", pg, "$$a'$1;$$b", "$$a'$1;$$¦b", "Dw"},
		{"tagged dollar quote", pg, "$t$ $$ $T$ $tt$ $t$b", "$t$ $$ $T$ $tt$ $t$¦b", "Dw"},
		{"tag that shares a dollar", pg, "$a$ $b$a$x", "$a$ $b$a$¦x", "Dw"},
		{"open dollar quote", pg, "$t$ $$", "$t$ $$", "D"},
		{"a tag has no digit first", pg, "$1$$1$", "$1¦$$1$", "PD"},
		{"dollar in a name", pg, "a$b$c", "a$b$c", "w"},
		{"no dollar quotes", lite, "$$a$$", "$¦$¦a$$", "..w"},
		{"lone dollar", pg, "$ $a", "$¦ ¦$¦a", "._.w"},
		{"positional", pg, "$1+$23", "$1¦+¦$23", "P.P"},
		{"named", pg, ":a,:b_1", ":a¦,¦:b_1", "p.p"},
		{"named beyond ASCII", pg, ":größe", ":größe", "p"},
		{"cast", pg, ":a::int", ":a¦::¦int", "ptw"},
		{"cast of a name", pg, "a::b:::c", "a¦::¦b¦::¦:¦c", "wtwt.w"},
		{"slice", pg, "a[lo:hi][1:n]", "a¦[¦lo¦:¦hi¦]¦[¦1¦:¦n¦]", "w.w.w..d.w."},
		{"assignment", pg, "f(a := :b)", "f¦(¦a¦ ¦:¦=¦ ¦:b¦)", "w.w_.._p."},
		{"not a name", pg, ":1 : :", ":¦1¦ ¦:¦ ¦:", ".d_._."},
		{"question mark", lite, "a=? AND b=?2", "a¦=¦?¦ ¦AND¦ ¦b¦=¦?2", "w.?_w_w.P"},
		{"question mark is an operator", pg, "a ? 'b' ?| c", "a¦ ¦?¦ ¦'b'¦ ¦?¦|¦ ¦c", "w_._s_.._w"},
		{"semicolon", pg, "a;b", "a¦;¦b", "w;w"},
		{"byte order mark", pg, "\ufeffCOMMIT", "\ufeff¦COMMIT", "_w"},
		{"byte order mark in a name", pg, "a\ufeff", "a\ufeff", "w"},
		{"all spaces", pg, " \t\n\v\f\rx", " \t\n\v\f\r¦x", "_w"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			marks, tokens := lex(tc.d, tc.sql)
			require.Equal(t, tc.want, strings.Join(tokens, "¦"))
			require.Equal(t, tc.kind, marks)
		})
	}
}

func FuzzLexer(f *testing.F) {
	for _, sql := range seeds {
		f.Add(sql)
	}
	dialects := []*dialect.Dialect{postgres(), sqlite(), sqlserver(), {}}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, d := range dialects {
			l, at := dialect.NewLexer(d, sql), 0
			for {
				token, ok := l.Next()
				if !ok {
					break
				}
				require.Equal(t, at, token.Start, "a gap or an overlap")
				require.Greater(t, token.End, token.Start, "an empty token")
				require.NotZero(t, token.Kind)
				at = token.End
			}
			require.Equal(t, len(sql), at)
		}
	})
}

// seeds are what the fuzz tests begin with: each piece of syntax once, whole and broken.
var seeds = []string{
	"SELECT 1 AS n", "SELECT :a, :b::int, a[lo:hi] FROM t WHERE x = $1 AND y = ?", "",
	"INSERT INTO t VALUES ('it''s', E'\\'', \"q\"\"q\", [b]]b], `t`, $x$ $1 :a $x$)",
	"-- c\n/* /* n */ */ (SELECT 1) UNION SELECT 2; -- end", "SELECT 1; COMMIT", "; ;COMMIT;",
	"CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; END; COMMIT",
	"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
	"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SET /* */ SESSION\nCHARACTERISTICS AS TRANSACTION",
	"'open", "\"open", "[open", "`open", "$t$open", "/*open", "E'open\\", "$:a$ x", "?1?AND:a", "--\rCOMMIT\n", "\x00",
	"E'a' --x\n 'b\\'' :a", "\ufeffSELECT 1", "$99999999999999999999 $0", "SELECT:a:b::c:::d", "a\xff:b",
	"E'a' --\r, \n'b\\' ; COMMIT; --'", "?:A", "(;A", "@p0", "?a?", "EXPLAIN SELECT 1", "WITH a AS (SELECT ';') TABLE a",
}
