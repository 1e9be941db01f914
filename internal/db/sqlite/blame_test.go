package sqlite_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
)

// TestErrorsInPublishersText: places are characters of the text that the publisher wrote.
func TestErrorsInPublishersText(t *testing.T) {
	t.Parallel()
	d, err := sqlite.Open(options(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Probe(t.Context()))
	text := dialect.Value{Kind: dialect.String, Text: "x"}
	for sql, want := range map[string]string{
		"SELECT 'ü', :a_long_name, nope":       "(character 27 of the statement)",
		"SELECT :x FROM absent WHERE nope = 1": "no such table: absent",
		"SELEC :x":                             "(character 1 of the statement)",
		"SELECT :x, fun(:x)":                   "(character 12 of the statement)",
	} {
		params := dialect.Params{Named: map[string]dialect.Value{"x": text}}
		if want == "(character 27 of the statement)" {
			params = dialect.Params{Named: map[string]dialect.Value{"a_long_name": text}}
		}
		compiled, faults := dialect.Compile(d.Dialect(), dialect.Statement{SQL: sql, Params: params})
		require.Empty(t, faults, sql)
		_, err := d.Read(context.WithoutCancel(t.Context()), db.Call{Label: "job"}, compiled, db.RowOptions{Format: db.Objects})
		require.ErrorContains(t, err, want, sql)
	}
}
