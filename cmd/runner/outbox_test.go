package main

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutboxDDL(t *testing.T) {
	t.Parallel()
	for engine, table := range map[string]string{"postgres": "dbrunner.outbox", "sqlite": "dbrunner_outbox"} {
		got := runCommand(t, "", "outbox", "ddl", "--engine", engine)
		require.Zero(t, got.code)
		require.Contains(t, got.out, "CREATE TABLE IF NOT EXISTS")
		require.Contains(t, got.out, table)
	}
	require.Contains(t, runCommand(t, "", "outbox", "ddl", "--engine", "postgres").out, "GRANT INSERT (id, target, body) ON dbrunner.outbox TO application")
}

// TestOutboxRows lists rows, and an operator decides about those with an error.
func TestOutboxRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, file := filepath.Join(dir, "shop.db"), filepath.Join(dir, "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte("databases: {shop: {type: sqlite, connection_string: "+path+", outbox: {targets: [jobs.shop.transaction]}}, plain: {type: postgres, connection_string: 'postgres://h/x'}}"), 0o600))
	raw, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, raw.Close()) })
	exec := func(text string) {
		_, err := raw.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	exec(runCommand(t, "", "outbox", "ddl", "--engine", "sqlite").out)
	run := func(args ...string) outcome {
		if args[0] != "ls" {
			args = append(args, "--no-audit")
		}
		return runCommand(t, "", append([]string{"outbox", args[0], "shop", "--config", file}, args[1:]...)...)
	}

	require.Equal(t, "no rows\n", run("ls").out)
	exec(`INSERT INTO dbrunner_outbox (token, id, target, body, error) VALUES
		('t1', 'a', 'jobs.shop.transaction', '{}', NULL), ('t2', 'b', 'jobs.x.query', '{}', 'target_not_configured: x'),
		('t3', 'c', 'jobs.shop.transaction', '{}', 'too_old: x'), ('t4', 'd', 'jobs.shop.transaction', '{', 'invalid_body: x')`)
	exec(`UPDATE dbrunner_outbox SET created_at = created_at - 90000000 WHERE token = 't3'`)
	listed := run("ls").out
	for _, text := range []string{"t1", "waiting", "target_not_configured: x", "25h0m0s"} {
		require.Contains(t, listed, text)
	}
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(run("ls", "--errors", "--json").out), &rows))
	require.Len(t, rows, 3)

	got := run("retry", "t3", "t4")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.err, "a row is too old, and its job may have taken effect")
	require.Contains(t, run("retry", "t1").err, "no row with an error has the token t1")
	require.Equal(t, 78, run("retry").code)
	require.Equal(t, 78, run("retry", "t2", "--all").code)
	got = run("retry", "--all")
	require.Equal(t, 1, got.code)
	require.Contains(t, got.out, "retried: 2")
	require.Contains(t, got.err, "left: 1 rows are too old")
	require.Equal(t, "retried: 1\n", run("retry", "t3", "--force").out)
	require.Equal(t, "no rows\n", run("ls", "--errors").out)
	require.NotContains(t, run("ls").out, "t3", "it has another token, and is as if it were inserted now")
	require.NotContains(t, run("ls").out, "25h")

	require.Equal(t, 1, run("rm", "t1").code, "not confirmed")
	require.Equal(t, "removed: 2\n", run("rm", "t1", "t2", "unknown", "--yes").out)
	require.Equal(t, 78, runCommand(t, "", "outbox", "ls", "plain", "--config", file).code)
	require.Contains(t, runCommand(t, "", "outbox", "ls", "nosuch", "--config", file).err, "the configuration has no database")
}

// TestOutboxActionsAreRecorded holds that rows change only after an entry was written.
func TestOutboxActionsAreRecorded(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	path := filepath.Join(t.TempDir(), "outbox.db")
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, append(text, "  boxed: {type: sqlite, connection_string: "+path+", outbox: {targets: [jobs.boxed.transaction]}}\n"...), 0o600))
	raw, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, raw.Close()) })
	for _, statement := range []string{runCommand(t, "", "outbox", "ddl", "--engine", "sqlite").out, `INSERT INTO dbrunner_outbox (token, id, target, body, error) VALUES
		('t1', 'a', 'jobs.x.query', '{}', 'target_not_configured: x'), ('t2', 'b', 'jobs.x.query', '{}', 'target_not_configured: x'), ('t3', 'c', 'jobs.x.query', '{}', 'too_old: x')`} {
		_, err := raw.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	require.Equal(t, exitOK, w.run("", "topology", "apply", "--no-audit").code)
	require.Equal(t, exitFailure, w.run("", "outbox", "retry", "boxed", "t3").code)
	require.Empty(t, w.entries(), "nothing was changed")
	ok := func(args ...string) {
		t.Helper()
		got := w.run("", append([]string{"outbox", args[0], "boxed"}, args[1:]...)...)
		require.Equal(t, exitOK, got.code, got.err)
	}
	ok("retry", "t1", "--by", "ada", "--reason", "the target is there")
	ok("retry", "t3", "--by", "ada", "--force")
	ok("rm", "t2", "--by", "grace", "--yes")
	found := w.entries("--action", "outbox", "--database", "boxed")
	require.Len(t, found, 3)
	require.Equal(t, []string{"t1"}, found[0].Targets)
	require.Equal(t, "runner outbox retry", found[0].Tool)
	require.Equal(t, "the target is there", found[0].Reason)
	require.Equal(t, map[string]string{"change": "retried"}, found[0].After)
	require.Equal(t, []string{"t3"}, found[1].Targets)
	require.Equal(t, map[string]string{"change": "removed"}, found[2].After)

	w.node.Stop()
	refused := w.run("", "outbox", "rm", "boxed", "t1", "--yes")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "nothing was done, because it could not be recorded: ")
	require.Contains(t, w.run("", "outbox", "ls", "boxed").out, "t1")
	require.Equal(t, "removed: 1\n", w.run("", "outbox", "rm", "boxed", "t1", "--yes", "--no-audit").out)
}
