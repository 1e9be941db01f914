// Package newengine proves where a new engine joins: a toy of one, in memory, is added to a copy of the source in exactly
// those places, and runs jobs through a runner.
package newengine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A new engine is its folder, its dialect, and a line in each of two tables.
const (
	folder  = "internal/db/toy"
	reading = "internal/db/dialect/toy.go"
	engines = "internal/manager/engines.go"
	drivers = "internal/archtest/engines_test.go"
)

// lines are what is added to the two tables, each behind a line that is there.
var lines = map[string][][2]string{
	engines: {
		{"\t\"dbrunner/internal/db/sqlserver\"\n", "\t\"dbrunner/internal/db/toy\"\n"},
		{"sqlite.Migrations},\n", "\t\t{\"toy\", toy.Open, toy.DDL, toy.Dialect, toy.Migrations},\n"},
	},
	drivers: {{"\"modernc.org/sqlite\"},\n", "\t\"toy\":       {\"example.com/toy\"},\n"}},
}

// added returns all files of a source with the toy: by their paths in it, where their content is.
func added(t *testing.T, root string) map[string]string {
	t.Helper()
	local, err := filepath.Abs("testdata")
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(local, "toy", "*.go"))
	require.NoError(t, err)
	out := withLines(t, root, lines)
	for _, name := range files {
		out[folder+"/"+filepath.Base(name)] = name
	}
	out[reading] = filepath.Join(local, "dialect.go")
	return out
}

// TestToyEngineRunsJobs builds a runner with the toy and gives it jobs.
func TestToyEngineRunsJobs(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	js := serve(t, build(t, root, added(t, root)), "SHOP_TYPE=toy", "SHOP_CONNECTION_STRING=toy:shop")
	put := run(t, js, "transaction", `{"version":1,"id":"put","statements":[{"sql":"PUT :key :value","params":{"key":"a","value":"b"},"expect_rows":1}]}`)
	require.Equal(t, "succeeded", put.Status, put.raw)
	get := run(t, js, "query", `{"version":1,"id":"get","sql":"GET :key","params":{"key":"a"}}`)
	require.Equal(t, "succeeded", get.Status, get.raw)
	require.JSONEq(t, `[{"key":"a","value":"b"}]`, string(get.Rows))
	guarded := run(t, js, "transaction", `{"version":1,"id":"guard","statements":[{"sql":"PUT :key :value","params":{"key":"a","value":"c"},"expect_rows":2}]}`)
	require.Equal(t, "expect_rows_failed", guarded.Error.Code, guarded.raw)
	refused := run(t, js, "query", `{"version":1,"id":"write","sql":"PUT :key :value","params":{"key":"a","value":"c"}}`)
	require.Equal(t, "read_only_violation", refused.Error.Code, refused.raw)
	again := run(t, js, "query", `{"version":1,"id":"again","sql":"GET :key","params":{"key":"a"}}`)
	require.JSONEq(t, string(get.Rows), string(again.Rows))
}

// TestToyEngineHasItsPlaces adds the toy to a copy of the source, where the tests of the architecture find nothing wrong.
func TestToyEngineHasItsPlaces(t *testing.T) {
	t.Parallel()
	root, tree := moduleRoot(t), t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(tree, name), text, 0o600))
	}
	for _, name := range []string{"bench", "client", "cmd", "contract", "examples", "internal", "test"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			require.NoError(t, os.CopyFS(filepath.Join(tree, name), os.DirFS(filepath.Join(root, name))))
		}
	}
	for file, content := range added(t, root) {
		text, err := os.ReadFile(content)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(tree, file), text, 0o600))
	}
	check := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "Arrows|Engines|Drivers", "./internal/archtest")
	check.Dir = tree
	output, err := check.CombinedOutput()
	require.NoError(t, err, string(output))
}
