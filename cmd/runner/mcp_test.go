package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

func TestMCPChecksItsFlags(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"mcp", "mcp a.b", "mcp shop --timeout 0s", "mcp shop --timeout 11m", "mcp shop extra"} {
		require.Equal(t, exitUsage, runCommand(t, "", strings.Fields(line)...).code, line)
	}
	got := runCommand(t, "", "mcp", "shop", "--server", "nats://127.0.0.1:1")
	require.Equal(t, exitFailure, got.code)
	require.Empty(t, got.out, "standard output is for the protocol")
	require.Contains(t, got.err, "127.0.0.1:1")
}

// npmClient is the folder with the client and its packages, which are installed once for each lock file, below the user's cache.
func npmClient(t *testing.T) string {
	t.Helper()
	skip := func(why string) {
		if os.Getenv("REQUIRE_SERVICES") == "1" {
			require.Fail(t, why+"; scripts/setup node installs Node.js")
		}
		t.Skip("SKIPPED, not tested: the server for agents with the npm SDK: " + why)
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			skip("no " + program + " is found")
		}
	}
	source := filepath.Join("testdata", "mcp")
	lock, err := os.ReadFile(filepath.Join(source, "package-lock.json"))
	require.NoError(t, err)
	sum := sha256.Sum256(lock)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	cache = filepath.Join(cache, "dbrunner-tests")
	installed := filepath.Join(cache, "mcp-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(installed); err != nil {
		require.NoError(t, os.MkdirAll(cache, 0o750))
		fresh, err := os.MkdirTemp(cache, "npm-")
		require.NoError(t, err)
		defer func() { _ = os.RemoveAll(fresh) }()
		require.NoError(t, os.CopyFS(fresh, os.DirFS(source)))
		if out, err := npmInstall(t, fresh); err != nil {
			skip("npm cannot get the packages: " + out)
		}
		if err := os.Rename(fresh, installed); err != nil {
			require.DirExists(t, installed, "another process was first, or: %v", err)
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(source)))
	require.NoError(t, os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(dir, "node_modules")))
	return dir
}

func npmInstall(t *testing.T, dir string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir, cmd.WaitDelay = dir, pollEvery
	text, err := cmd.CombinedOutput()
	require.NotContains(t, string(text), "EINTEGRITY")
	return string(text), err
}

// guardedWorld is a world whose server has users: runner may do everything, agent may make some calls; and further ones.
func guardedWorld(t *testing.T, more ...*server.User) *world {
	t.Helper()
	const run = "dbrunner.api.run.shop.call."
	node := bustest.Server(t, bustest.Users(append(more,
		&server.User{Username: "runner", Password: "runner"},
		&server.User{Username: "agent", Password: "agent", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{
				"dbrunner.api.calls.shop", run + "pay", run + "purse", run + "many", run + "endless", "dbrunner.api.cancel.shop.*",
			}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.agent.>"}},
		}},
	)...))
	nc, err := nats.Connect(node.ClientURL(), nats.UserInfo("runner", "runner"))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	w := &world{t: t, node: node, js: js}
	w.config = w.write("24h")
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, []byte(strings.Replace(string(text), "nats:\n", "nats:\n  user: runner\n  password: runner\n", 1)), 0o600))
	return w
}

// npmReply is what the client saw of a call.
type npmReply struct {
	Failed bool   `json:"failed"`
	Error  string `json:"error"`
	Answer struct {
		Status      string           `json:"status"`
		Duplicate   bool             `json:"duplicate"`
		Rows        []map[string]any `json:"rows"`
		RowsOmitted int              `json:"rows_omitted"`
		Error       struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"answer"`
}

// Promise: a client that shares no code with this one, the SDK of npm, lists and calls the tools, cancels, and is refused; the same
// request_id has one effect, and the same protocol id in two clients is two calls.
func TestMCPWithTheSDKOfNPM(t *testing.T) {
	t.Parallel()
	dir, w := npmClient(t), guardedWorld(t)
	w.withCatalog(map[string]string{
		"pay": payDefinition, "refund": "params: {id: {}}\nsql: SELECT :id AS id\n",
		"purse":   "params: {id: {schema: {type: integer}}}\nsql: SELECT amount FROM purses WHERE id = :id\n",
		"many":    "sql: WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 130) SELECT n FROM c\n",
		"endless": "sql: WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000) SELECT count(*) AS n FROM c\n",
	})
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	create := `{"statements":[{"sql":"CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount >= 0), note TEXT)"},{"sql":"INSERT INTO purses VALUES (7, 100, ''), (9, 0, '')"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "--kind", "transaction", "--file", "-").code)

	self, err := os.Executable()
	require.NoError(t, err)
	line, err := json.Marshal(map[string]any{
		"command": self, "args": []string{"mcp", "shop", "--server", w.node.ClientURL(), "--user", "agent", "--inbox-prefix", "_INBOX.agent"},
		"env": map[string]string{asRunner: "1", "NATS_PASSWORD": "agent"},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "client.js", string(line))
	var log strings.Builder
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = dir, &log, testTimeout
	out, err := cmd.Output()
	require.NoError(t, err, "%s", log.String())

	var seen struct {
		Server struct{ Name string } `json:"server"`
		Tools  []struct {
			Name        string          `json:"name"`
			InputSchema json.RawMessage `json:"inputSchema"`
			Annotations struct {
				ReadOnlyHint, DestructiveHint bool
			} `json:"annotations"`
		} `json:"tools"`
		Paid, Again, Misspelled, Refused, Unknown, Many, Canceled, Before, After npmReply
		Two                                                                      []npmReply
		Progress                                                                 int
	}
	require.NoError(t, json.Unmarshal(out, &seen), "%s", out)
	require.Equal(t, "dbrunner", seen.Server.Name)
	require.Len(t, seen.Tools, 5)
	for _, tool := range seen.Tools {
		require.Equal(t, tool.Name == "pay", !tool.Annotations.ReadOnlyHint, tool.Name)
		require.Equal(t, tool.Name == "pay", tool.Annotations.DestructiveHint, tool.Name)
		require.Contains(t, string(tool.InputSchema), `"request_id"`)
	}
	require.Equal(t, "succeeded", seen.Paid.Answer.Status, "%s", out)
	require.False(t, seen.Paid.Answer.Duplicate)
	require.True(t, seen.Again.Answer.Duplicate)
	require.True(t, seen.Misspelled.Failed)
	require.Contains(t, seen.Misspelled.Answer.Error.Message, `did you mean "amount"?`)
	require.True(t, seen.Refused.Failed)
	require.Equal(t, "denied", seen.Refused.Answer.Error.Code)
	require.Contains(t, seen.Unknown.Error, "unknown tool")
	require.Len(t, seen.Many.Answer.Rows, 100)
	require.Equal(t, 30, seen.Many.Answer.RowsOmitted)
	require.Positive(t, seen.Progress)
	require.Contains(t, seen.Canceled.Error, "enough")
	require.Contains(t, w.run("", "call", "shop", "endless", "--id", mcpID(t, "endless", "endless"), "--timeout", "30s").out, "cancelled")
	require.InDelta(t, 90, seen.Before.Answer.Rows[0]["amount"], 0)
	for _, r := range seen.Two {
		require.Equal(t, "succeeded", r.Answer.Status)
		require.False(t, r.Answer.Duplicate)
	}
	require.InDelta(t, 70, seen.After.Answer.Rows[0]["amount"], 0)
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

// mcpID is the id of a job for a request of the user agent.
func mcpID(t *testing.T, call, request string) string {
	t.Helper()
	encoded, err := json.Marshal([]string{"agent", call, request})
	require.NoError(t, err)
	sum := sha256.Sum256(encoded)
	return "mcp-" + hex.EncodeToString(sum[:])[:32]
}
