package catalog_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/catalog"
)

// FuzzFile: a file is a statement with a valid schema, or a list of what is wrong with it.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		pay, "sql: SELECT 1 AS n\nmax_rows: 10\n", "", "---\n---\n", "a: &a [*a]\n", "sql: !!binary aGk=\n", "# none\n", "? [a]\n: b\n",
		"a: &a [x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n", "params: {a: {schema: {$ref: '#'}}}\nsql: SELECT :a AS a\n",
		"params: {a: {schema: {type: string, pattern: '(a+)+$'}}}\nsql: SELECT :a AS a\n", "\xff\xfe", "max_rows: 99999999999999999999\nsql: x\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(map[string]string{"one.yaml": text})
		if err != nil {
			var faults *catalog.Error
			require.ErrorAs(t, err, &faults)
			require.NotEmpty(t, faults.Faults)
			return
		}
		s := c.Statement("one")
		require.NotNil(t, s)
		require.NotEmpty(t, s.Texts)
		require.True(t, json.Valid(s.Schema), "%s", s.Schema)
	})
}
