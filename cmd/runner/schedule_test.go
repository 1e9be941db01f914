package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// schedulesFolder writes files of schedules, and returns their folder.
func schedulesFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	return folder
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	w := setup(t)
	folder := schedulesFolder(t, map[string]string{
		"often.yaml":      "key: jobs.shop.query.often\nevery: 1s\njob:\n  sql: SELECT 1 AS n\n  labels: {a: b}\n---\nkey: jobs.shop.query.nightly\ncron: '30 2 * * *'\ntime_zone: Europe/Berlin\njob: {sql: SELECT 2 AS n}\n",
		"below/also.json": `{"key": "jobs.shop.transaction.also", "at": "2100-01-01T00:00:00Z", "job": {"statements": [{"sql": "SELECT 1"}], "id": "also"}}`,
		"README.md":       "no schedule",
	})
	got := w.run("", "schedule", "apply", "-f", folder, "--source", "repo")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, "created jobs.shop.transaction.also\ncreated jobs.shop.query.often\ncreated jobs.shop.query.nightly\n", got.out)
	require.Equal(t, "unchanged jobs.shop.transaction.also\nunchanged jobs.shop.query.often\nunchanged jobs.shop.query.nightly\n", w.run("", "schedule", "apply", "-f", folder, "--source", "repo").out)
	require.Eventually(t, func() bool {
		var views []scheduleView
		w.run("", "schedule", "ls", "shop", "--json").json(t, &views)
		return len(views) == 3 && views[1].State != nil && views[1].State.Fired >= 1 && views[1].Status == "active"
	}, 30*time.Second, 50*time.Millisecond)
	list := w.run("", "schedule", "ls").out
	require.Contains(t, list, "30 2 * * * (Europe/Berlin)")
	show := w.run("", "schedule", "show", "jobs.shop.query.nightly").out
	require.Equal(t, 5, strings.Count(show, "\nnext "), show)

	paused := w.run("", "schedule", "pause", "jobs.shop.query.often", "--reason", "enough", "--by", "ada")
	require.Equal(t, exitOK, paused.code, paused.err)
	require.Contains(t, paused.out, "paused: schedule jobs.shop.query.often (revision ")
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS n").code, "jobs run")
	require.Equal(t, "unchanged", strings.Fields(w.run("", "schedule", "apply", "-f", folder, "--source", "repo").out)[0])
	require.Contains(t, w.run("", "schedule", "ls").out, "paused", "apply undoes no pause")
	require.Contains(t, w.run("", "schedule", "resume", "jobs.shop.query.often").out, "resumed: schedule jobs.shop.query.often, which was paused by ada: enough")

	ran := w.run("", "schedule", "run", "jobs.shop.query.nightly")
	require.Equal(t, exitOK, ran.code, ran.err)
	id := strings.Fields(ran.out)[0]
	require.Regexp(t, `^nightly-[0-9a-f]{12}-[a-z0-9]+$`, id)
	require.Eventually(t, func() bool { return w.run("", "result", "get", "shop", id).code == exitOK }, 30*time.Second, 50*time.Millisecond)

	// Another source keeps its own.
	other := schedulesFolder(t, map[string]string{"x.yaml": "key: jobs.shop.query.other\ncron: '@daily'\njob: {sql: SELECT 1}\n"})
	require.Equal(t, "created jobs.shop.query.other\n", w.run("", "schedule", "apply", "-f", other, "--source", "other", "--prune").out)
	taken := w.run("", "schedule", "apply", "-f", folder, "--source", "other")
	require.Equal(t, exitFailure, taken.code)
	require.Contains(t, taken.err, `is there from the source "repo"`)
	require.NoError(t, os.Remove(filepath.Join(folder, "below", "also.json")))
	require.Contains(t, w.run("", "schedule", "apply", "-f", folder, "--source", "repo", "--prune", "--dry-run").out, "removed jobs.shop.transaction.also")
	require.Contains(t, w.run("", "schedule", "apply", "-f", folder, "--source", "repo", "--prune").out, "removed jobs.shop.transaction.also")
	require.Contains(t, w.run("", "schedule", "ls").out, "jobs.shop.query.other")
	require.Equal(t, "removed jobs.shop.query.often\n", w.run("", "schedule", "rm", "jobs.shop.query.often").out)
	require.Equal(t, exitFailure, w.run("", "schedule", "rm", "jobs.shop.query.often").code)
	for _, key := range []string{"jobs.shop.query.often", "jobs.shop.query.nightyl"} { // removed, and misspelled
		none := w.run("", "schedule", "pause", key, "--reason", "enough")
		require.Equal(t, exitFailure, none.code, "nothing would be paused")
		require.Contains(t, none.err, "there is no schedule "+key)
	}
	require.Contains(t, w.run("", "audit", "ls", "--action", "schedule").out, "jobs.shop.query.often")
}

// TestApplyReportsAllErrors of all files in one run, and writes nothing.
func TestApplyReportsAllErrors(t *testing.T) {
	t.Parallel()
	w := setup(t)
	folder := schedulesFolder(t, map[string]string{
		"a.yaml": "key: jobs.shop.query.a\ncron: '@daily'\nevery: 1s\njob: {sql: SELECT 1}\n---\nkey: jobs.shop.query.b\ncron: '0 0 30 2 *'\njob: {sql: SELECT 1}\n---\nkey: jobs.shop.query.c\ncron: '@daily'\ntime_zone: Europe/Berln\njob: {sql: 1, max_rows: 0}\n---\nkey: jobs.shop.query.f\ncron: '61 * * * *'\ntime_zone: Europe/Berln\njob: {sql: SELECT 1}\n",
		"b.yaml": "key: jobs.shop.query\ncron: '61 * * * *'\njob: {sql: SELECT 1}\n---\nkey: jobs.shop.query.d\nevery: 1s\njob: {statements: [{sql: SELECT 1}]}\n---\nkey: jobs.shop.query.e\nevery: 1s\njob: {sql: SELECT 1, id: x, expires_at: '2100-01-01T00:00:00Z', reply_to: x, answer: reply}\n",
		"c.yaml": "key: queues.shop.bulk.health.a\nevery: 1s\njob: {}\n---\nkey: jobs.shop.nosuch.a\nevery: 1s\njob: {sql: SELECT 1}\n---\nkey: jobs.shop.query.good\nevery: 1s\njob: {sql: SELECT 1}\n---\nkey: jobs.shop.query.good\nevery: 1s\njob: {sql: SELECT 1}\n",
		"d.yaml": "key: [\n",
		"e.yml":  "- x\n",
		"f.yaml": "key: jobs.shop.call.pay.x\nevery: 1s\njob: {parms: {}}\n---\nkey: jobs.shop.call.x\nevery: 1s\njob: {}\n---\nkey: jobs.shop.approve.x\nevery: 1s\njob: {}\n",
	})
	got := w.run("", "schedule", "apply", "-f", folder)
	require.Equal(t, exitUsage, got.code)
	for _, text := range []string{
		"a.yaml:1: cron and every are given; write one of cron, every and at", "a.yaml:6: cron: never fires", "a.yaml:10: time zone \"Europe/Berln\" is not known",
		"a.yaml:15: time zone", "a.yaml:15: cron: minute: \"61\"", "a.yaml:10: job: sql: ", "a.yaml:10: job: max_rows: ", "b.yaml:1: key jobs.shop.query: write jobs.<database>.<kind>.<name>",
		"b.yaml:5: job: ", "b.yaml:9: job.expires_at is the schedule's to set", "b.yaml:9: job.reply_to is not possible", "b.yaml:9: job.answer: reply is not possible",
		"b.yaml:9: job.id is only for at", "c.yaml:1: key queues.shop.bulk.health.a: queues take no jobs of kind health: write jobs.shop.health.a", "c.yaml:5: job: ", "c.yaml:13: key jobs.shop.query.good is that of another schedule, in c.yaml:9",
		"d.yaml: invalid YAML", "e.yml:1: not a schedule",
		"f.yaml:1: job: parms: ", "f.yaml:5: key jobs.shop.call.x: write ", "f.yaml:9: key jobs.shop.approve.x: dry runs and approvals cannot be scheduled",
	} {
		require.Contains(t, got.err, text)
	}
	require.NotContains(t, w.run("", "schedule", "ls").out, "good", "nothing is written")
	missing := w.run("", "schedule", "apply", "-f", filepath.Join(folder, "nosuch"))
	require.Equal(t, exitUsage, missing.code)
	require.Contains(t, missing.err, filepath.Join(folder, "nosuch"), "the folder is named")
	require.Contains(t, w.run("", "schedule", "apply", "-f", filepath.Join(folder, "a.yaml")).err, "-f must name a folder")
	for _, args := range [][]string{
		{"schedule", "apply"},
		{"schedule", "apply", "-f", folder, "--prune"},
		{"schedule", "show"},
		{"schedule", "show", "x"},
		{"schedule", "rm"},
		{"schedule", "pause", "jobs.shop.query.a"},
		{"schedule", "pause", "x", "--reason", "y"},
		{"pause", "shop", "--schedule", "jobs.other.query.a", "--reason", "y"},
	} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}
}

// TestSubmitLater: a job that was submitted twice with its id runs once, at its time.
func TestSubmitLater(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 2 {
		got := w.run("", "submit", "-d", "shop", "--sql", "SELECT 7 AS n", "--id", "later", "--in", "2s", "--by", "ada", "--reason", "month's end")
		require.Equal(t, exitOK, got.code, got.err)
		require.Regexp(t, `^later  at \S+  jobs\.shop\.query\.at_[0-9a-f]{12}\n$`, got.out)
		require.Equal(t, i == 1, strings.Contains(got.err, "was used before; nothing new was scheduled"))
	}
	require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--sql", "SELECT 8 AS n", "--id", "later", "--in", "2s").code, "another job")
	recorded := w.entries()
	require.Len(t, recorded, 1, "what stores nothing has no entry")
	require.Equal(t, "runner submit schedule shop ada month's end", strings.Join([]string{recorded[0].Tool, recorded[0].Action, recorded[0].Database, recorded[0].By, recorded[0].Reason}, " "))
	require.Regexp(t, `^jobs\.shop\.query\.at_`, recorded[0].Targets[0])
	require.Eventually(t, func() bool { return w.run("", "result", "get", "shop", "later").code == exitOK }, 30*time.Second, 50*time.Millisecond)
	for _, args := range [][]string{
		{"--in", "2s"},
		{"--in", "2s", "--at", "2100-01-01T00:00:00Z", "--id", "x"},
		{"--at", "tomorrow", "--id", "x"},
		{"--at", "2000-01-01T00:00:00Z", "--id", "x"},
		{"--in", "-2s", "--id", "x"},
		{"--in", "2s", "--id", "x", "--output", "f.csv"},
		{"--by", "ada"},
	} {
		require.Equal(t, exitUsage, w.run("", append([]string{"submit", "-d", "shop", "--sql", "SELECT 1"}, args...)...).code, "%v", args)
	}
	called := w.run(`{"params":{"from":7}}`, "submit", "-d", "shop", "-k", "call.pay", "--queue", "bulk", "--file", "-", "--id", "called", "--at", "2100-01-01T00:00:00Z")
	require.Equal(t, exitOK, called.code, called.err)
	require.Regexp(t, `  queues\.shop\.bulk\.call\.pay\.at_[0-9a-f]{12}\n$`, called.out)
}
