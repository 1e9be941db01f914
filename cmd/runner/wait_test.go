package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWait(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	none := w.run("", "wait", "shop", "--timeout", "1s")
	require.Equal(t, exitFailure, none.code)
	require.Equal(t, "shop: not ready: no runner is there yet\nrunner: not ready within 1s: shop\n", none.err)

	done := make(chan outcome, 1)
	go func() { done <- w.run("", "wait", "shop", "--timeout", "60s", "--json") }() // before the runner is there
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	got := <-done
	require.Equal(t, exitOK, got.code, got.err)
	var found []waited
	got.json(t, &found)
	require.Len(t, found, 1)
	require.True(t, found[0].Ready)
	require.Equal(t, "healthy", found[0].Verdict)
	require.Equal(t, "tester", found[0].Runner)

	both := w.run("", "wait", "shop", "nosuch", "--timeout", "1s")
	require.Equal(t, exitFailure, both.code)
	require.Contains(t, both.err, "nosuch: not ready")
	require.Contains(t, both.err, "shop: ready (healthy)")
	require.NotContains(t, both.err[strings.Index(both.err, "not ready within"):], "shop: ", "it is ready")
	migrated := w.run("", "wait", "shop", "--migrated", "--timeout", "1s")
	require.Equal(t, exitFailure, migrated.code)
	require.Contains(t, migrated.err, "shop: not ready: no runner reports migrations of shop")
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())

	for _, args := range [][]string{{"wait"}, {"wait", "a.b"}, {"wait", "shop", "shop"}, {"wait", "shop", "--timeout", "0s"}, {"wait", "shop", "--accept", "x"}} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}
}

func TestWaitForMigrations(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__a.sql"), []byte("CREATE TABLE a (n INTEGER);"), 0o600))
	w.config = w.amend("    migrations: {folder: " + folder + "}\n    health: {pending_migrations: ignore}\n")
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	require.Equal(t, exitOK, w.run("", "wait", "shop", "--timeout", "30s").code, "pending ones are not minded")
	pending := w.run("", "wait", "shop", "--migrated", "--timeout", "1s")
	require.Equal(t, exitFailure, pending.code)
	require.Contains(t, pending.err, "1 migrations are pending")
	done := make(chan outcome, 1)
	go func() { done <- w.run("", "wait", "shop", "--migrated", "--timeout", "60s") }()
	require.Equal(t, exitOK, runCommand(t, "", migrateLine(w.config, "up shop")...).code)
	got := <-done
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

// NATS may be about to start as well; that it refuses us or is down is reported once.
func TestWaitForNATS(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	w.node.Stop()
	got := w.run("", "wait", "shop", "--timeout", "1s")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "connection refused")
}
