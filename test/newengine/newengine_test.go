// Package newengine proves where a new engine joins: a toy of one, in memory, is added to a copy of the source in exactly
// those places, and runs jobs through a runner.
package newengine

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
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
	out := map[string]string{}
	local, err := filepath.Abs("testdata")
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(local, "toy", "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		out[folder+"/"+filepath.Base(name)] = name
	}
	out[reading] = filepath.Join(local, "dialect.go")
	for file, pairs := range lines {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		changed := string(text)
		for _, pair := range pairs {
			require.Equal(t, 1, strings.Count(changed, pair[0]), "%s has no place for %q", file, pair[1])
			changed = strings.Replace(changed, pair[0], pair[0]+pair[1], 1)
		}
		out[file] = filepath.Join(t.TempDir(), filepath.Base(file))
		require.NoError(t, os.WriteFile(out[file], []byte(changed), 0o600))
	}
	return out
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	return root
}

// TestToyEngineRunsJobs builds a runner with the toy and gives it jobs.
func TestToyEngineRunsJobs(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	replace := map[string]string{}
	for file, content := range added(t, root) {
		replace[filepath.Join(root, file)] = content
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	list := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(list, overlay, 0o600))
	runner := filepath.Join(t.TempDir(), "runner")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", runner, "./cmd/runner")
	build.Dir = root
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))

	nats := bustest.Server(t).ClientURL()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "RUNNER_NATS_URLS=" + nats, "NATS_URL=" + nats,
		"RUNNER_DATABASES=shop", "SHOP_TYPE=toy", "SHOP_CONNECTION_STRING=toy:shop",
	}
	var log bytes.Buffer
	serve := exec.CommandContext(t.Context(), runner, "serve")
	serve.Dir, serve.Env, serve.Stdout, serve.Stderr = t.TempDir(), env, &log, &log
	require.NoError(t, serve.Start())
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	_, js := bustest.Plain(t, nats)
	require.Eventually(t, func() bool {
		_, err := js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
		return err == nil
	}, time.Minute, 20*time.Millisecond)

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

type result struct {
	raw    string
	Status string          `json:"status"`
	Rows   json.RawMessage `json:"rows"`
	Error  struct {
		Code string `json:"code"`
	} `json:"error"`
}

// run publishes a job and waits for its result.
func run(t *testing.T, js jetstream.JetStream, kind, body string) (r result) {
	t.Helper()
	var job struct {
		ID string `json:"id"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &job))
	_, err := js.Publish(t.Context(), "dbrunner.jobs.shop."+kind, []byte(body))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		stream, err := js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
		if err != nil {
			return false
		}
		message, err := stream.GetLastMsgForSubject(t.Context(), "dbrunner.results.shop."+job.ID)
		if err != nil {
			return false
		}
		r.raw = string(message.Data)
		return json.Unmarshal(message.Data, &r) == nil
	}, time.Minute, 20*time.Millisecond)
	return r
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
