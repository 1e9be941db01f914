package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// TestErrorsInPublishersWords: parameters are reported by the publisher's names, with the type that the value does not fit, and
// places are in the publisher's own text.
func TestErrorsInPublishersWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("CREATE TABLE taking (d date, n integer, m numeric(5,2), u uuid); CREATE TYPE mood AS ENUM ('sad')")
	str := func(typ, text string) dialect.Value {
		return dialect.Value{Kind: dialect.String, Type: typ, Text: text}
	}
	named := func(list map[string]dialect.Value) dialect.Params { return dialect.Params{Named: list} }
	for _, c := range []struct {
		sql    string
		params dialect.Params
		want   []string
	}{
		{"INSERT INTO taking (u, d) VALUES (:key, :day)", named(map[string]dialect.Value{"key": str("", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "day": str("", "canary")}), []string{"parameter :day is not a value of type date"}},
		{"INSERT INTO taking (d) VALUES ($2), ($1)", dialect.Params{List: []dialect.Value{str("", "2026-01-01"), str("date", "canary")}}, []string{"parameter $2 is not a value of type date"}},
		{"SELECT :n::integer AS v", named(map[string]dialect.Value{"n": {Kind: dialect.Number, Text: "5.0"}}), []string{"parameter :n is not a value of type integer", "without its fraction"}},
		{"SELECT :n AS v", named(map[string]dialect.Value{"n": str("smallint", "70000")}), []string{"parameter :n is not a value of type smallint"}},
		{"SELECT :m AS v", named(map[string]dialect.Value{"m": str("mood", "canary")}), []string{"parameter :m is not a value of type mood"}},
		{"SELECT :j AS v", named(map[string]dialect.Value{"j": str("jsonb", "{canary")}), []string{"parameter :j is not a value of type jsonb"}},
		{"SELECT :name AS v, canary AS \"größe\"", named(map[string]dialect.Value{"name": str("text", "x")}), []string{`"canary" (character 20 `}},
		{"SELECT 'ü' || :a_long_name_of_a_parameter || :b || nope", named(map[string]dialect.Value{"a_long_name_of_a_parameter": str("", "x"), "b": str("", "y")}), []string{`"nope" (character 52 `}},
		{"SELECT :a::numeric AS v, :b FROM nothing", named(map[string]dialect.Value{"a": str("numeric(5,2)", "1"), "b": str("text", "x")}), []string{`"nothing" (character 34 `}},
		{"SELECT nope, $1::text", dialect.Params{List: []dialect.Value{str("", "x")}}, []string{`"nope" (character 8 `}},
		{"SELECT $1 + nope", dialect.Params{List: []dialect.Value{str("numeric(4,1)", "1")}}, []string{`"nope" (character 13 `}},
		{"SELECT (:x", named(map[string]dialect.Value{"x": str("text", "x")}), []string{"at character 11 "}},
		{"SELECT f(:x)", named(map[string]dialect.Value{"x": str("text", "x")}), []string{`"f" (character 8 `}},
		{"SELECT :x :x", named(map[string]dialect.Value{"x": str("text", "x")}), []string{`":x" (character 11 `}},
	} {
		compiled, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: c.sql, Params: c.params})
		require.Empty(t, faults, c.sql)
		for range 3 { // also where the session has the statement by its name
			check := func(err error) {
				t.Helper()
				require.Error(t, err, c.sql)
				for _, want := range c.want {
					require.Contains(t, err.Error(), want, c.sql)
				}
				if !strings.Contains(c.sql, "canary") {
					require.NotContains(t, err.Error(), "canary", c.sql)
				}
			}
			_, err := b.db.Read(t.Context(), call(), compiled, objects())
			if !strings.HasPrefix(c.sql, "INSERT") {
				check(err)
			}
			tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "SELECT 1"}, compiled}, Expect: make([]*db.Range, 2)}
			_, err = b.db.Transact(t.Context(), call(), tx, objects(), sealed("job"))
			check(err)
			_, err = b.db.Execute(t.Context(), call(), compiled, objects(), nil)
			check(err)
		}
	}
}
