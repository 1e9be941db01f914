package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withQueues is setup with the queues bulk and feed.
func withQueues(t *testing.T) *world {
	t.Helper()
	w := prepare(t)
	dir := t.TempDir()
	text := fmt.Sprintf(configText, w.node.ClientURL(), "24h", filepath.Join(dir, "shop.db")) + "    queues: {bulk: {slots: 1}, feed: {fleet_slots: 4}}\n"
	w.config = filepath.Join(dir, "runner.yaml")
	require.NoError(t, os.WriteFile(w.config, []byte(text), 0o600))
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	t.Cleanup(func() { require.Equal(t, exitOK, p.terminate(), "%s", p.output()) })
	return w
}

// TestQueueCommands: submit, ps, job, pause and resume of a queue, and redrive to it or to none.
func TestQueueCommands(t *testing.T) {
	t.Parallel()
	w := withQueues(t)
	require.Contains(t, w.run("", "check").out, "shop: queue bulk, 1 slots in this runner, 10000 in the fleet\nshop: queue feed, 2 slots in this runner, 4 in the fleet\n")
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--queue", "bulk", "--sql", "SELECT 1 AS n").code)
	unknown := w.run("", "submit", "-d", "shop", "--queue", "bluk", "--sql", "SELECT 1 AS n")
	require.Equal(t, exitFailure, unknown.code)
	require.Contains(t, unknown.err, "the database has no queue bluk, or query does not run in it")
	for _, args := range [][]string{
		{"submit", "-d", "shop", "--queue", "Bulk", "--sql", "SELECT 1"}, {"pause", "shop", "--queue", "a.b", "--reason", "x"}, {"resume", "shop", "--queue", "A"},
	} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}

	endless := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--queue", "bulk", "--sql", endless, "--id", "endless", "--no-wait").code)
	require.Eventually(t, func() bool { return strings.Contains(w.run("", "ps", "shop").out, "executing") }, testTimeout, pollEvery)
	require.Regexp(t, `(?m)^shop +endless +query +bulk +tester +executing `, w.run("", "ps", "shop").out)
	view, _ := w.where("endless")
	require.Equal(t, "running", view.State)
	require.Equal(t, "bulk", view.Queue)

	nosuch := w.run("", "pause", "shop", "--queue", "bluk", "--reason", "x")
	require.Equal(t, exitFailure, nosuch.code)
	require.Contains(t, nosuch.err, "the stream of database shop has no queue bluk (it has bulk, feed); check the name, or run runner topology apply")
	busy := w.run("", "pause", "shop", "--queue", "bulk", "--reason", "reports", "--by", "ada", "--wait", "1s")
	require.Equal(t, exitFailure, busy.code)
	require.Contains(t, busy.out, "paused: queue bulk of database shop (revision 1)\n")
	require.Contains(t, busy.err, "paused, but 1 jobs still run after 1s")
	require.Equal(t, exitOK, w.run("", "pause", "shop", "--queue", "feed", "--reason", "other", "--wait", "30s").code, "nothing of this queue runs")
	require.Equal(t, "resumed: queue feed of database shop, which was paused by "+thisUser()+": other\nconfirmed by tester\n", w.run("", "resume", "shop", "--queue", "feed").out)
	require.Equal(t, exitOK, w.run("", "wait", "shop", "--accept", "degraded", "--timeout", "30s").code)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS n").code, "jobs of no queue run")
	require.Equal(t, "database shop is not paused\nconfirmed by tester\n", w.run("", "resume", "shop").out, "that would be another pause")
	require.Equal(t, exitOK, w.run("", "cancel", "shop", "endless", "--wait", "30s").code)
	require.Equal(t, exitOK, w.run("", "resume", "shop", "--queue", "bulk").code)

	for _, id := range []string{"again", "now"} {
		require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--queue", "bulk", "--sql", "SELECT * FROM t_"+id, "--id", id).code)
	}
	require.Eventually(t, func() bool { return len(w.deadLetters()) == 2 }, testTimeout, pollEvery)
	dead := w.deadLetters()
	require.Equal(t, "dbrunner.queues.shop.bulk.query", dead["again"].Subject)
	for id, flag := range map[string]string{"again": "--now=false", "now": "--now"} {
		require.Equal(t, exitOK, w.run("", "dead", "redrive", flag, dead[id].DeadLetter).code)
	}
	require.Eventually(t, func() bool {
		dead = w.deadLetters()
		return dead["again_r1"].Subject == "dbrunner.queues.shop.bulk.query" && dead["now_r1"].Subject == "dbrunner.jobs.shop.query"
	}, testTimeout, pollEvery, "%+v", dead)
}
