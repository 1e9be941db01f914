package dbtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// testRoundTrip reads values of all types and sends what results hold of them back, with their type and, where that is
// enough, without: they are the same values again.
func testRoundTrip(t *testing.T, h Harness) {
	require.NotEmpty(t, h.RoundTrips)
	b := setup(t, h)
	rapid.Check(t, func(rt *rapid.T) {
		exprs, columns := make([]string, len(h.RoundTrips)), make([]string, len(h.RoundTrips))
		for i, value := range h.RoundTrips {
			exprs[i] = value.Expr(rt)
			columns[i] = fmt.Sprintf("%s AS c%d", exprs[i], i)
		}
		set, err := b.db.Read(t.Context(), call(), b.compile("SELECT "+strings.Join(columns, ", ")), arrays())
		require.NoError(rt, err, "%s", columns)
		var rows [][]json.RawMessage
		require.NoError(rt, json.Unmarshal(set.Rows, &rows), "%s", set.Rows)
		back := sentBack{params: named{}}
		for i, value := range h.RoundTrips {
			back.add(rt, &h, value, exprs[i], set.Columns[i].Type, rows[0][i])
		}
		same, err := b.db.Read(t.Context(), call(), b.compile("SELECT "+strings.Join(back.checks, ", "), back.params), arrays())
		require.NoError(rt, err, "%s", back.what)
		var answers [][]int
		require.NoError(rt, json.Unmarshal(same.Rows, &answers), "%s", same.Rows)
		for i, is := range answers[0] {
			require.Equal(rt, 1, is, "sent back as another value: %s", back.what[i])
		}
	})
}

// sentBack is what is sent back, and the expressions that compare it.
type sentBack struct {
	params named
	checks []string
	what   []string
}

func (s *sentBack) add(rt *rapid.T, h *Harness, value RoundTrip, expr, resultType string, text json.RawMessage) {
	v := asParameter(rt, text)
	if value.Typed && v.Type == "" {
		typed := v
		typed.Type = resultType
		s.check(h, value, expr, typed, true, text)
	}
	if v.Type != "" || value.Plain && v.Kind != dialect.Array && v.Kind != dialect.Object {
		s.check(h, value, expr, v, false, text)
	}
}

func (s *sentBack) check(h *Harness, value RoundTrip, expr string, v dialect.Value, typed bool, text json.RawMessage) {
	name := fmt.Sprintf("p%d", len(s.checks))
	s.params[name] = v
	s.checks = append(s.checks, h.SQL.Same(":"+name, expr, value.Type, typed)+" AS "+name)
	s.what = append(s.what, fmt.Sprintf("%s, %s, as %s %q", expr, text, v.Type, v.Text))
}

// refusedText is what no body of a job may hold: NUL, and halves of surrogate pairs.
var refusedText = regexp.MustCompile(`(?i)\\u0000`)

// asParameter reads a value of a result as a body's parameter is read.
func asParameter(t *rapid.T, text json.RawMessage) dialect.Value {
	require.NotRegexp(t, refusedText, strings.ReplaceAll(string(text), `\\`, ""))
	switch text[0] {
	case '"':
		var s string
		require.NoError(t, json.Unmarshal(text, &s))
		return dialect.Value{Kind: dialect.String, Text: s}
	case 'n':
		return dialect.Value{Kind: dialect.Null, Text: "null"}
	case 't', 'f':
		return dialect.Value{Kind: dialect.Bool, Text: string(text)}
	case '[':
		return dialect.Value{Kind: dialect.Array, Text: string(text)}
	case '{':
		return typedParameter(text)
	default:
		return dialect.Value{Kind: dialect.Number, Text: string(text)}
	}
}

// typedParameter reads an object: a value with its type, or JSON of a column.
func typedParameter(text json.RawMessage) dialect.Value {
	var typed struct{ Type, Value *string }
	if err := json.Unmarshal(text, &typed); err == nil && typed.Type != nil && typed.Value != nil && strings.Count(string(text), ":") >= 2 {
		if compactTyped(*typed.Type, *typed.Value) == string(text) {
			return dialect.Value{Kind: dialect.String, Type: *typed.Type, Text: *typed.Value}
		}
	}
	return dialect.Value{Kind: dialect.Object, Text: string(text)}
}

func compactTyped(typ, value string) string {
	out := jsontext.AppendString([]byte(`{"type":`), typ)
	out = jsontext.AppendString(append(out, `,"value":`...), value)
	return string(append(out, '}'))
}

// RunRoundTrip runs the round trips alone, for databases that are set up in a way of their own.
func RunRoundTrip(t *testing.T, h Harness) {
	t.Helper()
	testRoundTrip(t, h)
}
