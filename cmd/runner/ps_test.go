package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/internal/db/dbtest"
)

const fleetText = `
instance: %s
nats:
  urls: [%s]
worker:
  drain_timeout: 100ms
databases:
  shop:
    type: postgres
    connection_string: %s
    pool: {min: 1, max: 10}
    slots: 40
`

// TestPsOfAFleet: five processes have 200 jobs in flight. The list is complete and correct within a second; with one of them
// stopped, so are those of the other four, and the stopped one is named. When it goes on, it is listed again.
func TestPsOfAFleet(t *testing.T) {
	t.Parallel()
	const runners, jobs = 5, 200
	w := prepare(t)
	dsn := dbtest.Postgres(t)
	processes := make([]*process, runners)
	for i := range processes {
		file := filepath.Join(t.TempDir(), "runner.yaml")
		text := fmt.Sprintf(fleetText, fmt.Sprint("r", i), w.node.ClientURL(), dsn)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		processes[i] = startProcess(t, "serve", "--config", file)
	}
	for _, p := range processes {
		p.await("runner started")
		t.Cleanup(func() { require.Equal(t, exitOK, p.terminate(), "%s", p.output()) })
	}
	for i := range jobs {
		_, err := w.js.Publish(t.Context(), "dbrunner.jobs.shop.query", fmt.Appendf(nil, `{"id":"job-%d","timeout":"5m","sql":"SELECT 1 AS n FROM pg_sleep(300)"}`, i))
		require.NoError(t, err)
	}
	ps := func(args ...string) (outcome, *client.Running, time.Duration) {
		t.Helper()
		var found client.Running
		started := time.Now()
		got := runCommand(t, "", append([]string{"ps", "--server", w.node.ClientURL(), "--json"}, args...)...)
		took := time.Since(started)
		if got.out != "" {
			got.json(t, &found)
		}
		return got, &found, took
	}
	complete := func(args ...string) (took time.Duration) {
		t.Helper()
		require.Eventually(t, func() bool { // intake takes a moment, and more on a busy machine
			got, found, needed := ps(args...)
			took = needed
			return got.code == exitOK && len(found.Jobs) == jobs && len(found.Runners) == runners && (took < time.Second || len(args) > 0)
		}, testTimeout, pollEvery)
		return took
	}
	t.Logf("%d jobs of %d runners: %v", jobs, runners, complete())
	var found *client.Running
	var ids map[string]bool
	var states, byRunner map[string]int
	require.Eventually(t, func() bool { // connections are opened one after the other
		_, found, _ = ps("shop", "--wait", testTimeout.String())
		ids, states, byRunner = map[string]bool{}, map[string]int{}, map[string]int{}
		for i := range found.Jobs {
			ids[found.Jobs[i].JobID] = true
			states[found.Jobs[i].State]++
			byRunner[found.Jobs[i].Runner]++
		}
		return states["executing"] == 50 && states["waiting"] == jobs-50
	}, testTimeout, pollEvery, "each runner has ten connections")
	require.Len(t, ids, jobs)
	require.Equal(t, map[string]int{"r0": 40, "r1": 40, "r2": 40, "r3": 40, "r4": 40}, byRunner)

	require.NoError(t, processes[2].cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = processes[2].cmd.Process.Signal(syscall.SIGCONT) }) // so that it can end
	var took time.Duration
	require.Eventually(t, func() bool {
		var got outcome
		got, found, took = ps()
		return got.code == exitTimeout && len(found.Runners) == runners-1 && len(found.Missing) == 1 && took < time.Second
	}, testTimeout, pollEvery)
	require.Equal(t, "r2", found.Missing[0].Runner)
	require.Equal(t, "running", found.Missing[0].State)
	require.Len(t, found.Jobs, jobs-40)
	for i := range found.Jobs {
		require.NotEqual(t, "r2", found.Jobs[i].Runner)
	}
	text := runCommand(t, "", "ps", "shop", "--server", w.node.ClientURL())
	require.Contains(t, text.err, "no answer from r2 for shop (running, last heartbeat ")
	require.Contains(t, text.err, "160 jobs in flight on 4 runners\n")
	t.Logf("with one stopped: %v", took)

	require.NoError(t, processes[2].cmd.Process.Signal(syscall.SIGCONT))
	complete("--wait", testTimeout.String())
}

// TestPs: what the table has, what a job in flight looks like elsewhere, and what is wrong with a command line.
func TestPs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, outcome{err: "0 jobs in flight on 1 runner\n"}, w.run("", "ps"))
	endless := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", endless, "--id", "endless", "--no-wait").code)
	var got outcome
	require.Eventually(t, func() bool {
		got = w.run("", "ps", "shop")
		return strings.Contains(got.out, "executing")
	}, testTimeout, pollEvery)
	require.Equal(t, exitOK, got.code)
	require.Equal(t, "1 job in flight on 1 runner\n", got.err)
	lines := strings.Split(got.out, "\n")
	require.Equal(t, []string{"DATABASE", "JOB", "KIND", "QUEUE", "RUNNER", "STATE", "SINCE", "FOR", "DELIVERIES", "ATTEMPTS"}, strings.Fields(lines[0]))
	require.Regexp(t, `^shop +endless +query +- +tester +executing +\S+Z +\S+s +1 +1$`, lines[1])
	require.NotContains(t, w.run("", "job", "shop", "endless").out, "tester", "runners do not answer to their own inboxes")
	require.Contains(t, w.run("", "job", "shop", "endless", "--inbox-prefix", "_INBOX").out, "; executing on tester since ")
	require.Equal(t, exitOK, w.run("", "cancel", "shop", "endless", "--wait", "30s").code)

	nosuch := w.run("", "ps", "nosuch")
	require.Equal(t, exitFailure, nosuch.code)
	require.Contains(t, nosuch.err, "no runner has the database nosuch")
	require.Equal(t, exitUsage, w.run("", "ps", "a.b").code)
	require.Equal(t, exitUsage, w.run("", "ps", "--wait", "0s").code)
	require.Equal(t, exitUsage, w.run("", "ps", "shop", "audit").code)
}

// TestPsWithoutRunners says so.
func TestPsWithoutRunners(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	for _, args := range [][]string{{"ps"}, {"ps", "shop"}} {
		got := w.run("", args...)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "no runner answers")
	}
}

// TestPsEscapesWhatOthersWrote: an answer comes from any user who may subscribe where runners do. A terminal obeys nothing of it.
func TestPsEscapesWhatOthersWrote(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	nc, err := nats.Connect(w.node.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Subscribe("dbrunner.api.running.shop", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"version":1,"runner":"r\u001b[1m","process":"p","database":"shop","part":1,"parts":1,"at":"2026-03-01T12:00:00Z",` +
			`"jobs":[{"job_id":"a\u001b]0;owned\u0007\nb\u202ec","kind":"\u001b[2J","state":"\u009b31m","since":"2026-03-01T11:59:59Z"}]}`))
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	heartbeat := `{"version":1,"instance":"\u001b[31mgone","process":"q","state":"\u0007","databases":[{"name":"shop"},{"name":"\u001b"}]}`
	_, err = w.js.Publish(t.Context(), "dbrunner.health.runner.gone", []byte(heartbeat))
	require.NoError(t, err)
	got := w.run("", "ps", "--wait", "2s")
	require.Equal(t, exitTimeout, got.code, got.err)
	require.Contains(t, got.out, `a\x1b]0;owned\a\nb\u202ec`)
	require.Contains(t, got.err, `no answer from \x1b[31mgone for shop (\a, last heartbeat `)
	for _, text := range []string{got.out, got.err} {
		require.NotContains(t, text, "\x1b")
		require.NotContains(t, text, "\a")
		require.NotContains(t, text, "\u202e")
		require.NotContains(t, text, "\u009b")
	}
}

// TestResultFromTheLedger: the result has expired, its job's ledger row has not.
func TestResultFromTheLedger(t *testing.T) {
	t.Parallel()
	w := setup(t)
	create := `{"id":"create","statements":[{"sql":"CREATE TABLE t (n INTEGER)"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "-k", "transaction", "-f", "-").code)
	s, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(t, err)
	require.NoError(t, s.Purge(context.Background(), jetstream.WithPurgeSubject("dbrunner.results.shop.create")))

	get := w.run("", "result", "get", "shop", "create")
	require.Equal(t, exitFailure, get.code)
	require.Contains(t, get.err, "runners do not answer to their own inboxes")
	get = w.run("", "result", "get", "shop", "create", "--inbox-prefix", "_INBOX", "--json")
	require.Equal(t, exitOK, get.code, get.err)
	require.Contains(t, get.out, `"duplicate":true`)
	require.Contains(t, w.run("", "result", "get", "shop", "never", "--inbox-prefix", "_INBOX").err, "the ledger has none either")
	job := w.run("", "job", "shop", "create", "--inbox-prefix", "_INBOX")
	require.Equal(t, exitOK, job.code, job.err)
	require.Contains(t, job.out, "finished: job create of shop succeeded")
	require.Equal(t, exitFailure, w.run("", "job", "shop", "never", "--inbox-prefix", "_INBOX").code)
}
