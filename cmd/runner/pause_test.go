package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, "database shop is not paused\nconfirmed by tester\n", w.run("", "resume", "shop").out)
	long := "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000) SELECT count(*) AS n FROM c"
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", long, "--id", "long", "--job-timeout", "10m", "--no-wait").code)
	require.Eventually(t, func() bool { view, _ := w.where("long"); return view.State == "running" }, 30*time.Second, 10*time.Millisecond)

	busy := w.run("", "pause", "shop", "--reason", "upgrade", "--by", "ada", "--wait", "1s")
	require.Equal(t, exitFailure, busy.code)
	require.Contains(t, busy.out, "paused: database shop (revision 1)\n")
	require.Contains(t, busy.err, "paused, but 1 jobs still run after 1s; wait longer, or cancel them")
	waits := w.run("", "wait", "shop", "--timeout", "1s")
	require.Equal(t, exitFailure, waits.code)
	require.Contains(t, waits.err, "they wait: paused by ada: upgrade")
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS n", "--id", "later", "--no-wait").code)
	require.Equal(t, exitOK, w.run("", "cancel", "shop", "long", "--wait", "30s").code, "cancel works meanwhile")

	again := w.run("", "pause", "shop", "--reason", "longer", "--by", "grace", "--wait", "30s")
	require.Equal(t, exitOK, again.code, again.err)
	require.Equal(t, "paused: database shop (revision 2)\nit was paused by ada: upgrade before; that record is replaced\nconfirmed by tester; nothing runs\n", again.out)
	require.Equal(t, exitFailure, w.run("", "result", "get", "shop", "later").code, "it waits")

	var view pauseView
	w.run("", "resume", "shop", "--json").json(t, &view)
	require.Equal(t, "grace", view.Replaced.By)
	require.False(t, view.Paused)
	require.Equal(t, []string{"tester"}, view.Confirmed)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS n", "--id", "later").code)
	require.Equal(t, exitOK, w.run("", "wait", "shop", "--timeout", "30s").code)

	for _, args := range [][]string{
		{"pause"},
		{"pause", "shop"},
		{"pause", "a.b", "--reason", "x"},
		{"pause", "shop", "--reason", " "},
		{"pause", "shop", "--reason", "x", "--wait", "-1s"},
		{"resume"},
		{"resume", "a b"},
	} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}
	unknown := w.run("", "pause", "nosuch", "--reason", "x")
	require.Equal(t, exitFailure, unknown.code)
	require.Contains(t, unknown.err, "there is no database nosuch here (runners have shop); check the name and the namespace")
}

func TestPauseWithoutRunners(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	missing := w.run("", "pause", "shop", "--reason", "x")
	require.Equal(t, exitFailure, missing.code)
	require.Equal(t, "runner: the bucket DBRUNNER_STATE is missing, so that nothing can be paused; runner topology apply creates it\n", missing.err)
	require.Equal(t, exitOK, w.run("", "topology", "apply", "--config", w.config).code)
	got := w.run("", "pause", "shop", "--reason", "before the start")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "no runner of the database sends heartbeats; those that start obey")
	p := startProcess(t, "serve", "--config", w.config)
	p.await("paused by an operator")
	p.await("runner started")
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}
