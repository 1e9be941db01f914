package postgres

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

// TestEveryCondition has a class and a code for every error of the manual's Appendix A.
func TestEveryCondition(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(conditions), 245)
	for code, name := range conditions {
		require.Len(t, code, 5)
		require.NotEmpty(t, name)
		_, one := byCode[code]
		_, all := byClass[code[:2]]
		require.True(t, one || all, "%s %s has no class", code, name)
		v := judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"})
		require.NotZero(t, v.class, code)
		require.NotEmpty(t, v.code, code)
		v = judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"})
		require.NotContains(t, []db.Class{db.ClassPermanent, db.ClassTransient}, v.class, "%s ended the session", code)
	}
	for code := range byCode {
		require.Contains(t, conditions, code)
	}
	for code := range remedies {
		require.Contains(t, conditions, code)
	}
	require.Equal(t, verdict{db.ClassPermanent, db.CodeDatabase}, judge(&pgconn.PgError{Code: "ZZ999"}))
	require.Equal(t, verdict{db.ClassPermanent, db.CodeDatabase}, judge(&pgconn.PgError{}))
}

// TestClasses fixes what repeating depends on.
func TestClasses(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]db.Class{
		"40001": db.ClassTransient, "40P01": db.ClassTransient, "55P03": db.ClassTransient,
		"08006": db.ClassLost, "57P01": db.ClassLost, "57P02": db.ClassLost, "25P03": db.ClassLost,
		"57P03": db.ClassTransient, "53300": db.ClassTransient, "57P04": db.ClassTransient,
		"40003": db.ClassUnknown, "57014": db.ClassTimeout,
		"22P02": db.ClassPermanent, "23505": db.ClassPermanent, "42601": db.ClassPermanent, "0A000": db.ClassPermanent,
		"28000": db.ClassPermanent, "3D000": db.ClassPermanent, "54000": db.ClassPermanent, "25006": db.ClassPermanent,
		"XX000": db.ClassPermanent, "P0001": db.ClassPermanent,
	} {
		require.Equal(t, want, judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"}).class, code)
	}
	for _, code := range []string{"57P03", "53300", "57P04"} { // as errors they are raised by a job's function: see above
		require.Equal(t, db.ClassUnavailable, judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"}).class, code)
	}
}

// TestDescribe never lets the server's text through, only names.
func TestDescribe(t *testing.T) {
	t.Parallel()
	e := &pgconn.PgError{
		Code: "23505", Message: "canary", Detail: "Key (a)=(canary)", Hint: "canary", Where: "canary", InternalQuery: "canary",
		ConstraintName: "c", TableName: "t", SchemaName: "s",
	}
	require.Equal(t, `unique violation, constraint "c", table "s.t"`, describe(e, ""))
	require.Equal(t, "insufficient privilege, table accounts",
		describe(&pgconn.PgError{Code: "42501", Message: "permission denied for table accounts"}, ""))
	require.Equal(t, "insufficient privilege",
		describe(&pgconn.PgError{Code: "42501", Message: "permission denied for table 'canary'"}, ""))
	for _, c := range []struct {
		sql      string
		position int32
		want     string
	}{
		{"SELECT x", 8, "x"},
		{"SELECT 'canary'", 8, ""},
		{"SELECT E'canary'", 8, ""},
		{"SELECT U&'canary'", 8, ""},
		{"SELECT 4711", 8, ""},
		{"SELECT $$canary$$", 8, ""},
		{`SELECT "canary"`, 8, ""},
		{"SELECT a.b", 8, "a.b"},
		{"SELECT ü FROM", 10, "FROM"},
		{"SELECT x", 99, ""},
		{"SELECT x", -1, ""},
		{"a <> 'x'", 3, "<>"},
		{"", 1, ""},
	} {
		require.Equal(t, c.want, wordAt(c.sql, c.position), c.sql)
	}
}

func TestLinkLost(t *testing.T) {
	t.Parallel()
	require.False(t, linkLost(errOutOfOrder))
	require.False(t, linkLost(errors.New("x")))
}

// TestBuiltins checks the tables against each other.
func TestBuiltins(t *testing.T) {
	t.Parallel()
	for _, b := range builtins {
		require.Equal(t, b.shown, builtinName(b.oid))
		got, ok := typeOf(b.shown)
		require.True(t, ok, b.shown)
		require.Equal(t, b.oid, got.oid, b.shown)
		if b.array == 0 {
			continue
		}
		require.Equal(t, b.shown+"[]", builtinName(b.array))
		got, ok = typeOf(b.shown + "[]")
		require.True(t, ok)
		require.Equal(t, paramType{oid: b.array, elem: b.oid, array: true}, got)
	}
	for _, alias := range []string{"int", "decimal", "float", "char", "CHAR(3)", "Character Varying(10)", "timestamp(3)", "_int4", " integer [] "} {
		got, ok := typeOf(alias)
		require.True(t, ok, alias)
		require.NotZero(t, got.oid, alias)
	}
	for _, bad := range []string{"", "a b c", "x; y", "a.b.c", "int4[", strings.Repeat("x", 300), "\xff", "a'b"} {
		_, ok := typeOf(bad)
		require.False(t, ok, bad)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s, err := parseSettings(map[string]string{"label_sessions": "true", "show_raised_messages": "1"})
	require.NoError(t, err)
	require.Equal(t, settings{label: true, showMessages: true}, s)
	_, err = parseSettings(map[string]string{"label_sessions": "maybe", "other": "x"})
	require.ErrorContains(t, err, "label_sessions must be true or false")
	require.ErrorContains(t, err, `unknown setting "other"`)
}

// TestOldServer leaves the parameter out that servers before 14 do not know.
func TestOldServer(t *testing.T) {
	t.Parallel()
	d := &Database{}
	require.False(t, d.checkIntervalRefused(&pgconn.PgError{Code: "42704", Message: `unrecognized configuration parameter "x"`}))
	require.False(t, d.noCheckInterval.Load())
	require.True(t, d.checkIntervalRefused(&pgconn.PgError{
		Code: "42704", Message: `unrecognized configuration parameter "client_connection_check_interval"`,
	}))
	require.True(t, d.noCheckInterval.Load())
}

// FuzzArray turns JSON arrays into literals: never a panic, never an unbalanced literal.
func FuzzArray(f *testing.F) {
	for _, seed := range []string{`[1,null]`, `[[1,2],[3,4]]`, `["a\"b\\","\u00fc",""]`, `[ ]`, `[{"a":[1,"}"]}]`, `[true , false]`} {
		f.Add(seed, uint32(oidText))
		f.Add(seed, uint32(oidJSONB))
	}
	f.Fuzz(func(t *testing.T, text string, elem uint32) {
		if text == "" || text[0] != '[' || !json.Valid([]byte(text)) {
			return
		}
		out, wrong := appendArray(nil, text, elem)
		if wrong != "" {
			return
		}
		depth, quoted := 0, false
		for i := 0; i < len(out); i++ {
			switch c := out[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case !quoted && c == '{':
				depth++
			case !quoted && c == '}':
				depth--
				if depth == 0 && i != len(out)-1 {
					t.Fatalf("%q: the literal ends early: %q", text, out)
				}
			}
		}
		if depth != 0 || quoted {
			t.Fatalf("%q: not balanced: %q", text, out)
		}
	})
}

// FuzzValue writes any text of any kind that is a string as valid JSON.
func FuzzValue(f *testing.F) {
	f.Add([]byte("NaN"), byte(asFloat))
	f.Add([]byte(`\x00ff`), byte(asBytes))
	f.Add([]byte(`a\\b\001`), byte(asBytes))
	f.Add([]byte("\xff\""), byte(asText))
	f.Fuzz(func(t *testing.T, v []byte, k byte) {
		if k := kind(k); k != asText && k != asBytes && k != asBool {
			return
		}
		if out, _ := appendValue(nil, kind(k), v); !json.Valid(out) {
			t.Fatalf("%q as %d: %q", v, k, out)
		}
	})
}
