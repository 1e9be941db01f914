package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/verify"
)

// TestVerify: the command reports what does not match, with its meaning, for people and for machines, and its exit code says so.
func TestVerify(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 5 {
		got := w.run("", "submit", "-d", "shop", "-k", "transaction", "--sql", "CREATE TABLE t"+strconv.Itoa(i)+" (n INTEGER)", "--id", fmt.Sprint("job-", i))
		require.Equal(t, exitOK, got.code, got.err)
	}
	clean := w.run("", "verify", "shop")
	require.Equal(t, exitOK, clean.code, clean.err)
	require.Contains(t, clean.out, "shop: read 5 results, 5 ledger rows, 0 dead letters and 0 jobs in")
	require.Contains(t, clean.out, "everything matches")

	stream, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 3))
	found := w.run("", "verify", "shop", "--rate", "100000")
	require.Equal(t, exitJob, found.code)
	require.Contains(t, found.out, "finding  result_missing  job-2  the ledger row of sequence 3 has the status succeeded")
	require.Contains(t, found.out, "means: ")
	require.Contains(t, found.out, "look at: ")
	require.Contains(t, found.err, "1 finding in shop")

	machine := w.run("", "verify", "shop", "--json", "--since", "1h")
	require.Equal(t, exitJob, machine.code)
	var report verify.Report
	machine.json(t, &report)
	require.Equal(t, map[verify.Kind]int{verify.ResultMissing: 1}, report.Counts)
	require.True(t, report.Complete)

	for text, args := range map[string][]string{
		"is neither a time such as":      {"shop", "--since", "yesterday"},
		"must be above zero":             {"shop", "--rate", "0"},
		"the configuration has no":       {"bank"},
		"the database is not 1 to 64 of": {"no.name"},
	} {
		got := w.run("", append([]string{"verify"}, args...)...)
		require.Equal(t, exitUsage, got.code, text)
		require.Contains(t, got.err, text)
	}
}

const loadText = fleetText + `
topology:
  ack_wait: 1s
`

// TestVerifyUnderLoad: while runners work and are killed, nothing is reported, and nothing afterwards.
func TestVerifyUnderLoad(t *testing.T) {
	t.Parallel()
	const runners, rounds = 2, 6
	w := prepare(t)
	dsn := dbtest.Postgres(t)
	start := func(i int) *process {
		w.config = filepath.Join(t.TempDir(), "runner.yaml")
		text := fmt.Sprintf(loadText, fmt.Sprint("r", i), w.node.ClientURL(), dsn)
		require.NoError(t, os.WriteFile(w.config, []byte(text), 0o600))
		return startProcess(t, "serve", "--config", w.config)
	}
	fleet := make([]*process, runners)
	for i := range fleet {
		fleet[i] = start(i)
		fleet[i].await("runner started")
	}
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "-k", "transaction", "--sql", "CREATE TABLE effects (n INTEGER PRIMARY KEY)").code)
	ctx, stop := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	var allowed atomic.Int64 // jobs: a slow machine takes as many as a fast one
	publisher.Go(func() { publishMixed(ctx, w.js, &allowed) })
	for round := range rounds {
		allowed.Add(300)
		i := round % runners
		require.NoError(t, fleet[i].cmd.Process.Kill())
		<-fleet[i].done
		fleet[i] = start(i)
		for range 2 {
			got := w.run("", "verify", "shop", "--json")
			require.Equal(t, exitOK, got.code, "%s%s", got.out, got.err)
		}
		fleet[i].await("runner started")
	}
	stop()
	publisher.Wait()
	require.Eventually(t, func() bool {
		s, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
		return err == nil && s.CachedInfo().State.Msgs == 0
	}, testTimeout, pollEvery)
	got := w.run("", "verify", "shop", "--json")
	require.Equal(t, exitOK, got.code, "%s%s", got.out, got.err)
	var report verify.Report
	got.json(t, &report)
	require.Greater(t, report.LedgerRows, uint64(100))
	require.Zero(t, report.InProgress)
	require.Empty(t, report.Findings)
	for _, p := range fleet {
		require.Equal(t, exitOK, p.terminate(), "%s", p.output())
	}
}

// publishMixed publishes jobs of all effects and outcomes, as many as are allowed, until the context ends.
func publishMixed(ctx context.Context, js jetstream.JetStream, allowed *atomic.Int64) {
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		for <-pace.C; ctx.Err() == nil && int64(i) >= allowed.Load(); <-pace.C {
		}
		kind, body := "transaction", fmt.Sprintf(`{"id":"job-%d","statements":[{"sql":"INSERT INTO effects VALUES (%d)"}]}`, i, i)
		switch i % 8 {
		case 1:
			kind, body = "query", fmt.Sprintf(`{"id":"job-%d","sql":"SELECT count(*) AS n FROM effects"}`, i)
		case 2:
			body = fmt.Sprintf(`{"id":"job-%d","statements":[{"sql":"INSERT INTO effects VALUES (%d)"}]}`, i, i-2) // fails
		case 3:
			kind, body = "statement", fmt.Sprintf(`{"id":"job-%d","sql":"ANALYZE effects"}`, i)
		case 4:
			body = fmt.Sprintf(`{"id":"job-%d","statements":[{"sql":"INSERT INTO effects VALUES (%d)"}]}`, i-4, i-4) // a duplicate
		case 5:
			body = fmt.Sprintf(`{"id":"job-%d","statements":[{"sql":"INSERT INTO effects VALUES (%d)"}]}`, i-4, i) // its id has a query's result
		case 6:
			body = fmt.Sprintf(`{"id":"job-%d","effect":"at_least_once","statements":[{"sql":"SELECT 1"}]}`, i-6) // another request
		}
		if _, err := js.Publish(ctx, "dbrunner.jobs.shop."+kind, []byte(body)); err != nil && ctx.Err() == nil {
			panic(err)
		}
	}
}

// TestVerifyInBoundedMemory: the number of results makes no difference to what the command needs. RUNNER_TEST_VERIFY_RESULTS
// sets their number.
func TestVerifyInBoundedMemory(t *testing.T) {
	t.Parallel()
	n := 20_000
	if text := os.Getenv("RUNNER_TEST_VERIFY_RESULTS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	w := setup(t)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "-k", "transaction", "--sql", "CREATE TABLE t (n INTEGER)", "--id", "first").code)
	plantSettled(t, w, n)
	cmd := command(t.Context(), t, "verify", "shop", "--config", w.config, "--json", "--rate", "1000000")
	started := time.Now()
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	peak := peakMemory(t, cmd.Process.Pid, done)
	var report verify.Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &report))
	require.Empty(t, report.Findings)
	require.EqualValues(t, n+1, report.Results)
	require.EqualValues(t, n+1, report.LedgerRows)
	t.Logf("%d results and ledger rows in %s, %d MB at most", n, time.Since(started).Round(100*time.Millisecond), peak>>10)
	require.Less(t, peak>>10, 512, "it also holds under the race detector; without it, see the log")
}

// peakMemory waits until a process has ended without an error, and returns its largest resident size, in KiB. The rusage of a
// process would include its parent's.
func peakMemory(t *testing.T, pid int, done <-chan error) (peak int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			return peak
		case <-tick.C:
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
			for line := range strings.Lines(string(status)) {
				if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
					require.NoError(t, err)
					peak = n
				}
			}
		}
	}
}

// plantSettled leaves n jobs as runners leave them: a result and a ledger row of each, with one answer.
func plantSettled(t *testing.T, w *world, n int) {
	t.Helper()
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(t, err)
	first, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	var file string
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "connection_string: "); ok {
			file = value
		}
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(20000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	insert, err := tx.PrepareContext(t.Context(), `INSERT INTO dbrunner_ledger SELECT namespace, database_name, ?, request_hash, status, sequence, ?, runner, recorded_at + ?, ?
		FROM dbrunner_ledger WHERE namespace = 'dbrunner' AND database_name = 'shop' AND job_id = 'first'`)
	require.NoError(t, err)
	defer func() { require.NoError(t, insert.Close()) }()
	var head struct {
		QueuedAt time.Time `json:"queued_at"`
	}
	require.NoError(t, json.Unmarshal(first.Data, &head))
	original := head.QueuedAt.Format(time.RFC3339Nano)
	for i := range n {
		id, at := fmt.Sprint("job-", i), head.QueuedAt.Add(time.Duration(i+1))
		body := strings.Replace(strings.Replace(string(first.Data), `"first"`, strconv.Quote(id), 1), original, at.Format(time.RFC3339Nano), 1)
		_, err := insert.ExecContext(t.Context(), id, at.UnixNano(), i+1, []byte(body))
		require.NoError(t, err)
		_, err = w.js.PublishAsync("dbrunner.store.shop."+id, []byte(body))
		require.NoError(t, err)
		if i%1000 == 999 || i == n-1 {
			select {
			case <-w.js.PublishAsyncComplete():
			case <-time.After(testTimeout):
				require.FailNow(t, "the results are not stored")
			}
		}
	}
	require.NoError(t, tx.Commit())
}

// TestVerifyPermissions: the permissions of docs/security.md are enough, and a login that may only select from the ledger.
func TestVerifyPermissions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(repository, "docs", "security.md"))
	require.NoError(t, err)
	rights := regexp.MustCompile("(?s)AUDITOR_RIGHTS = {.*?\n}\n").Find(page)
	require.NotEmpty(t, rights)
	file := filepath.Join(t.TempDir(), "nats.conf")
	text := string(rights) + "authorization { users = [{user: runner, password: x}, {user: auditor, password: x, permissions: $AUDITOR_RIGHTS}] }"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	node := bustest.Server(t, bustest.Users(opts.Users...))
	dsn := dbtest.Postgres(t)
	configured := func(user, dsn string) string {
		file := filepath.Join(t.TempDir(), "runner.yaml")
		text := fmt.Sprintf("instance: r1\nnats: {urls: [%s], user: %s, password: x}\ndatabases:\n  shop:\n    type: postgres\n    connection_string: %s\n",
			node.ClientURL(), user, dsn)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	p := startProcess(t, "serve", "--config", configured("runner", dsn))
	p.await("runner started")
	t.Cleanup(func() { require.Equal(t, exitOK, p.terminate(), "%s", p.output()) })
	submit := func(args ...string) outcome {
		return runCommand(t, "", append([]string{"submit", "-d", "shop", "--config", configured("runner", dsn)}, args...)...)
	}
	require.Equal(t, exitOK, submit("-k", "transaction", "--sql", "CREATE TABLE t (n integer)").code)
	require.Equal(t, exitJob, submit("--sql", "SELECT * FROM nosuch").code)

	got := runCommand(t, "", "verify", "shop", "--config", configured("auditor", reader(t, dsn)), "--inbox-prefix", "_INBOX.auditor")
	require.Equal(t, exitOK, got.code, "%s%s", got.out, got.err)
	require.Contains(t, got.out, "read 2 results, 1 ledger row, 1 dead letter and 0 jobs")
}

// reader makes a login that may only read the ledger, and returns its connection string.
func reader(t *testing.T, dsn string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	role := "auditor_" + conn.Config().Database
	for _, sql := range []string{
		"CREATE ROLE %s LOGIN PASSWORD 'x'", "GRANT USAGE ON SCHEMA dbrunner TO %s", "GRANT SELECT ON dbrunner.ledger TO %s",
	} {
		_, err := conn.Exec(t.Context(), fmt.Sprintf(sql, role))
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		for _, sql := range []string{"DROP OWNED BY %s", "DROP ROLE %s"} {
			_, err := conn.Exec(context.Background(), fmt.Sprintf(sql, role))
			require.NoError(t, err)
		}
	})
	return fmt.Sprintf("postgres://%s:x@%s:%d/%s?sslmode=disable", role, conn.Config().Host, conn.Config().Port, conn.Config().Database)
}
