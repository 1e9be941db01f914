package newengine

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestToyKindRuns adds a kind of job in the two places where a new one joins, its file and its row in the table, and gives
// a runner jobs of it: the stream takes them, the lane delivers them, and their keys are checked like those of any kind.
func TestToyKindRuns(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	work, err := filepath.Abs(filepath.Join("testdata", "kind_echo.go"))
	require.NoError(t, err)
	files := withLines(t, root, map[string][][2]string{"internal/jobs/kinds.go": {{
		"keys: []string{\"checks\"}, decode: decodeHealth,\n\t\t},\n",
		"\t\t{\n\t\t\tname: \"echo\", lane: \"work\", effects: []contract.Effect{contract.ReadOnly},\n" +
			"\t\t\tkeys: []string{\"text\"}, decode: decodeEcho,\n\t\t},\n",
	}}})
	files["internal/jobs/kind_echo.go"] = work
	js := serve(t, build(t, root, files), "SHOP_TYPE=sqlite", "SHOP_CONNECTION_STRING=shop.db")

	said := run(t, js, "echo", `{"version":1,"id":"said","text":"hello"}`)
	require.Equal(t, "succeeded", said.Status, said.raw)
	require.JSONEq(t, `[{"text":"hello"}]`, string(said.Rows))
	missing := run(t, js, "echo", `{"version":1,"id":"missing"}`)
	require.Equal(t, "missing_key", missing.Error.Code, missing.raw)
	misplaced := run(t, js, "query", `{"version":1,"id":"misplaced","sql":"SELECT 1","text":"hello"}`)
	require.Equal(t, "unknown_key", misplaced.Error.Code, misplaced.raw)
	require.Contains(t, misplaced.raw, "belongs to jobs of kind echo")
	forbidden := run(t, js, "echo", `{"version":1,"id":"forbidden","text":"hello","effect":"exactly_once"}`)
	require.Equal(t, "effect_not_allowed", forbidden.Error.Code, forbidden.raw)
	_, err = js.Publish(t.Context(), "dbrunner.jobs.shop.shout", []byte(`{}`))
	require.Error(t, err, "a kind that no row names")
}
