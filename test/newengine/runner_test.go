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

// withLines returns files of the source with lines added, each behind a line that is there: by their paths, where their
// content is.
func withLines(t *testing.T, root string, lines map[string][][2]string) map[string]string {
	t.Helper()
	out := map[string]string{}
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

// build builds a runner of the source with files added or changed, and returns its path.
func build(t *testing.T, root string, files map[string]string) string {
	t.Helper()
	replace := map[string]string{}
	for file, content := range files {
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
	return runner
}

// serve starts a runner with a database named shop, and returns when it takes jobs.
func serve(t *testing.T, runner string, settings ...string) jetstream.JetStream {
	t.Helper()
	nats := bustest.Server(t).ClientURL()
	var log bytes.Buffer
	serve := exec.CommandContext(t.Context(), runner, "serve")
	serve.Dir, serve.Stdout, serve.Stderr = t.TempDir(), &log, &log
	serve.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "RUNNER_NATS_URLS=" + nats, "NATS_URL=" + nats, "RUNNER_DATABASES=shop",
	}, settings...)
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
	return js
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
