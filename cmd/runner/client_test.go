package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/bus/results"
)

func TestSubmit(t *testing.T) {
	t.Parallel()
	w := setup(t)

	got := w.run("", "submit", "-d", "shop", "--sql", "SELECT :n AS n", "--params", `{"n": 7}`, "--id", "one", "--label", "a=b", "--json")
	require.Equal(t, exitOK, got.code, got.err)
	var result struct {
		JobID  string            `json:"job_id"`
		Rows   []map[string]any  `json:"rows"`
		Labels map[string]string `json:"labels"`
	}
	got.json(t, &result)
	require.Equal(t, "one", result.JobID)
	require.Equal(t, map[string]string{"a": "b"}, result.Labels)
	require.Len(t, result.Rows, 1)

	got = w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS first, 'x' AS second")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "succeeded  cli-")
	require.Contains(t, got.out, "first")

	again := w.run("", "submit", "-d", "shop", "--sql", "SELECT :n AS n", "--params", `{"n": 7}`, "--id", "one", "--json")
	require.Equal(t, exitOK, again.code, again.err)
	require.Contains(t, again.err, "the id one was used before; nothing new was published")

	stdin := w.run(`{"id":"two","statements":[{"sql":"CREATE TABLE t (n INTEGER)"},{"sql":"INSERT INTO t VALUES (1)"}]}`,
		"submit", "-d", "shop", "-k", "transaction", "-f", "-")
	require.Equal(t, exitOK, stdin.code, stdin.err)
	require.Contains(t, stdin.out, "statement 2: 1 row affected")

	inserted := w.run("", "submit", "-d", "shop", "-k", "transaction", "--sql", "INSERT INTO t VALUES (:n)", "--params", `{"n": 2}`)
	require.Equal(t, exitOK, inserted.code, inserted.err)
	require.Contains(t, inserted.out, "statement 1: 1 row affected")

	missing := filepath.Join(t.TempDir(), "missing", "t.csv")
	lost := w.run("", "submit", "-d", "shop", "-k", "transaction", "--id", "unwritten", "--output", missing,
		"--sql", "INSERT INTO t VALUES (3) RETURNING n")
	require.Equal(t, exitFailure, lost.code)
	require.Contains(t, lost.err, "--output "+missing+": no such file or directory")
	require.NotEqual(t, exitOK, w.run("", "job", "shop", "unwritten").code, "it was not published")

	healthy := w.run("", "submit", "-d", "shop", "-k", "health")
	require.Equal(t, exitOK, healthy.code, healthy.err)
	require.Contains(t, healthy.out, "healthy")

	unbound := w.run("", "submit", "-d", "shop", "--sql", "SELECT :n AS n")
	require.Equal(t, exitJob, unbound.code)
	require.Contains(t, unbound.err, "nothing ran; publish the corrected job under a new id")

	alone := w.run("", "submit", "-d", "shop", "-k", "statement", "--sql", "VACUUM")
	require.Equal(t, exitOK, alone.code, alone.err)
	require.Contains(t, alone.out, "0 rows affected")

	require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--sql", "SELECT * FROM nosuch").code)
	rejected := w.run(`{"sqll":"SELECT 1"}`, "submit", "-d", "shop", "-f", "-")
	require.Equal(t, exitJob, rejected.code)
	require.Contains(t, rejected.out, "did you mean")

	look := w.run(`{"checks":["connection"]}`, "submit", "-d", "shop", "-k", "health", "-f", "-")
	require.Equal(t, exitOK, look.code, look.err)
	require.Contains(t, look.out, "healthy")

	noWait := w.run("", "submit", "-d", "shop", "--sql", "SELECT 1", "--id", "three", "--no-wait", "--json")
	require.Equal(t, exitOK, noWait.code, noWait.err)
	var sent struct {
		JobID    string `json:"job_id"`
		Sequence uint64 `json:"sequence"`
	}
	noWait.json(t, &sent)
	require.Equal(t, "three", sent.JobID)
	require.NotZero(t, sent.Sequence)

	unknown := w.run("", "submit", "-d", "nosuch", "--sql", "SELECT 1")
	require.Equal(t, exitFailure, unknown.code)
	require.Contains(t, unknown.err, "unknown")
}

// TestSubmitComparesRequests: an id that belongs to another request has its result, which is never shown as this one's.
func TestSubmitComparesRequests(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT :n AS n", "--params", `{"n": 7}`, "--id", "one").code)
	same := w.run(`{"params":{"n":7}, "labels":{"a":"b"}, "sql":"SELECT :n AS n", "id":"one"}`, "submit", "-d", "shop", "-f", "-")
	require.Equal(t, exitOK, same.code, same.err)
	for name, args := range map[string][]string{
		"another parameter": {"--sql", "SELECT :n AS n", "--params", `{"n": 8}`},
		"another statement": {"--sql", "SELECT 8 AS n"},
		"another kind":      {"--kind", "statement", "--sql", "SELECT :n AS n", "--params", `{"n": 7}`},
		"not waited for":    {"--sql", "SELECT 8 AS n", "--no-wait"},
	} {
		got := w.run("", append([]string{"submit", "-d", "shop", "--id", "one"}, args...)...)
		require.Equal(t, exitJob, got.code, name)
		require.Empty(t, got.out, name)
		require.Contains(t, got.err, "the id one belongs to a different request", name)
	}
	bad := `{"id":"bad","sqll":"SELECT 1"}`
	for range 2 {
		rejected := w.run(bad, "submit", "-d", "shop", "-f", "-")
		require.Equal(t, exitJob, rejected.code)
		require.Contains(t, rejected.out, "did you mean")
	}
	other := w.run("", "submit", "-d", "shop", "--id", "bad", "--sql", "SELECT 1")
	require.Contains(t, other.err, "belongs to a different request")
}

// TestSubmitKnowsAResultOfAnotherMessage: the result is what the stream has under the sequence of an earlier stream.
func TestSubmitKnowsAResultOfAnotherMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	conn, err := bus.Connect(t.Context(), bus.Options{URL: w.node.ClientURL()})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	for sequence := range 4 {
		id := fmt.Sprintf("old-%d", sequence)
		_, err = results.Of(conn, "shop").Store(t.Context(), id, []byte(fmt.Sprintf(`{"job_id":%q,"kind":"query","database":"shop",`+
			`"status":"rejected","sequence":%d,"queued_at":"2026-03-01T12:00:00Z","error":{"code":"invalid_json"}}`, id, sequence+1)))
		require.NoError(t, err)
		got := w.run("", "submit", "-d", "shop", "--id", id, "--sql", "SELECT 1")
		require.Contains(t, got.err, "belongs to a different request", got.out)
	}
}

func TestSubmitTimeout(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	negative := w.run("", "submit", "-d", "shop", "--sql", "SELECT 1", "--job-timeout", "-1s")
	require.Equal(t, exitUsage, negative.code)
	require.Contains(t, negative.err, "--job-timeout must not be negative")
	got := w.run("", "submit", "-d", "shop", "--sql", "SELECT 1", "--timeout", "1s")
	require.Equal(t, exitTimeout, got.code)
	require.Contains(t, got.err, "the job continues")
}

func TestServeReportsErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte("nosuch: 1\ndatabases: {shop: {type: oracle}}\n"), 0o600))
	got := runCommand(t, "", "serve", "--config", file)
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "nosuch")
	require.Contains(t, got.err, "databases.shop.type")

	unreachable := filepath.Join(t.TempDir(), "runner.yaml")
	text := fmt.Sprintf(configText, "nats://127.0.0.1:1", "24h", filepath.Join(t.TempDir(), "shop.db"))
	require.NoError(t, os.WriteFile(unreachable, []byte(text), 0o600))
	got = runCommand(t, "", "serve", "--config", unreachable)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "connection refused")
}

func TestTopology(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	show := w.run("", "topology", "show")
	require.Equal(t, exitFailure, show.code, "everything is missing")
	require.Contains(t, show.out, "stream DBRUNNER_JOBS_shop is missing")

	apply := w.run("", "topology", "apply")
	require.Equal(t, exitOK, apply.code, apply.err)
	require.Contains(t, apply.out, "stream DBRUNNER_JOBS_shop: created")
	require.Equal(t, "nothing to do\n", w.run("", "topology", "apply").out)
	show = w.run("", "topology", "show")
	require.Equal(t, exitOK, show.code, show.err)
	require.Contains(t, show.out, "DBRUNNER_RESULTS_shop")
	require.Contains(t, w.run("", "topology", "show", "--json").out, `"name": "DBRUNNER_RESULTS_shop"`)

	w.config = w.write("48h")
	show = w.run("", "topology", "show", "--json")
	require.Equal(t, exitFailure, show.code)
	var view struct {
		Differences []string `json:"differences"`
	}
	show.json(t, &view)
	require.Len(t, view.Differences, 2, "rows are kept as long as the results that name them")
	require.Contains(t, view.Differences[0], "max_age")
	serve := runCommand(t, "", "serve", "--config", w.config)
	require.Equal(t, exitFailure, serve.code)
	require.Contains(t, serve.err, "runner topology apply")
	require.Contains(t, w.run("", "topology", "apply").out, "changed max_age from 24h0m0s to 48h0m0s")

	other := filepath.Join(t.TempDir(), "other.yaml")
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(other, []byte(strings.ReplaceAll(string(text), "  shop:", "  other:")), 0o600))
	dry := runCommand(t, "", "topology", "apply", "--config", other, "--dry-run")
	require.Equal(t, exitOK, dry.code, dry.err)
	require.Contains(t, dry.out, "stream DBRUNNER_JOBS_other: would be created")
	dry = runCommand(t, "", "topology", "prune", "--config", other, "--dry-run")
	require.Equal(t, exitOK, dry.code, dry.err)
	require.Contains(t, dry.out, "stream DBRUNNER_JOBS_shop: would be removed: no messages")
	require.Contains(t, w.run("", "topology", "apply").out, "nothing to do")
	prune := runCommand(t, "", "topology", "prune", "--config", other)
	require.Equal(t, exitOK, prune.code, prune.err)
	require.Contains(t, prune.out, "stream DBRUNNER_JOBS_shop: would be removed: no messages")
	require.Contains(t, prune.out, "stream DBRUNNER_JOBS_shop: removed")

	require.Equal(t, exitUsage, runCommand(t, "", "topology", "prune", "--server", w.node.ClientURL()).code,
		"without databases prune would remove everything")
}

// deadLetters returns the dead letters by job id.
func (w *world) deadLetters() map[string]deadLetterView {
	w.t.Helper()
	got := w.run("", "dead", "ls", "--json")
	require.Equal(w.t, exitOK, got.code, got.err)
	var list []deadLetterView
	got.json(w.t, &list)
	byJob := map[string]deadLetterView{}
	for _, l := range list {
		byJob[l.JobID] = l
	}
	return byJob
}

func TestDead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, "no dead letters\n", w.run("", "dead", "ls").out)

	insert := `{"id":"insert","reply_to":"_INBOX.unused","expires_in":"1h","labels":{"a":"<b>"},` +
		`"statements":[{"sql":"INSERT INTO t VALUES (:n)","params":{"n":1234567890123456789}}]}`
	require.Equal(t, exitJob, w.run(insert, "submit", "-d", "shop", "-k", "transaction", "-f", "-").code)
	var deadLetter deadLetterView // it is stored after the result that submit waits for
	require.Eventually(t, func() bool {
		deadLetter = w.deadLetters()["insert"]
		return deadLetter.DeadLetter != ""
	}, testTimeout, pollEvery)
	require.Equal(t, "failed", deadLetter.Reason)
	require.Contains(t, w.run("", "dead", "ls").out, deadLetter.Stored.Format(time.RFC3339))
	require.Equal(t, "undefined_object", deadLetter.Code)
	require.Equal(t, "insert", deadLetter.ResultID)

	show := w.run("", "dead", "show", deadLetter.DeadLetter, "--json")
	require.Equal(t, exitOK, show.code, show.err)
	var shown deadLetterView
	show.json(t, &shown)
	require.Contains(t, *shown.Body, `"reply_to":"_INBOX.unused"`, "the body is as it was published")
	require.Equal(t, "dbrunner.jobs.shop.transaction", shown.Subject)
	require.Contains(t, w.run("", "dead", "show", "dbrunner.dead."+deadLetter.DeadLetter).out, "undefined_object")

	create := `{"id":"create","statements":[{"sql":"CREATE TABLE t (n NUMERIC)"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "-k", "transaction", "-f", "-").code)
	redrive := w.run("", "dead", "redrive", deadLetter.DeadLetter)
	require.Equal(t, exitOK, redrive.code, redrive.err)
	require.Contains(t, redrive.out, "published as insert_r1")
	require.Empty(t, w.deadLetters(), "the dead letter is removed")
	require.Eventually(t, func() bool { return w.run("", "result", "get", "shop", "insert_r1").code == exitOK }, testTimeout, pollEvery)
	count := w.run("", "submit", "-d", "shop", "--sql", "SELECT count(*) AS n FROM t", "--json")
	require.Contains(t, count.out, `"rows":[{"n":1}]`)

	require.Equal(t, exitFailure, w.run("", "dead", "redrive", deadLetter.DeadLetter).code, "it is gone")
	require.Equal(t, exitUsage, w.run("", "dead", "show", "nonsense").code)
	require.Equal(t, "runner: there is no dead letter shop.query.nope; runner dead ls lists them\n", w.run("", "dead", "show", "shop.query.nope").err)
}

// A new id that is taken already is refused, and the dead letter stays.
func TestRedriveCollision(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--id", "q", "--sql", "SELECT * FROM nosuch").code)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--id", "q_r1", "--sql", "SELECT 1").code)
	deadLetter := w.deadLetters()["q"]
	refused := w.run("", "dead", "redrive", deadLetter.DeadLetter)
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "--id")
	require.Contains(t, w.deadLetters(), "q")

	require.Equal(t, exitOK, w.run("", "dead", "redrive", deadLetter.DeadLetter, "--id", "q_again").code)
	require.Eventually(t, func() bool {
		l, ok := w.deadLetters()["q_again"]
		return ok && l.RedriveOf == "q"
	}, testTimeout, pollEvery, "it failed again, and the dead letter names the original")
	require.Equal(t, exitOK, w.run("", "dead", "redrive", w.deadLetters()["q_again"].DeadLetter).code)
	require.Eventually(t, func() bool {
		_, ok := w.deadLetters()["q_again_r1"]
		return ok
	}, testTimeout, pollEvery)
}

// What may have had its effect is published again only by force, and what certainly had it never.
func TestRedriveRefuses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	conn, err := bus.Connect(t.Context(), bus.Options{URL: w.node.ClientURL()})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	deadLetter := func(id, reason, body string) string {
		headers := map[string][]string{
			contract.HeaderJobID: {id}, contract.HeaderReason: {reason}, contract.HeaderResultID: {id},
			contract.HeaderSequence: {"7"}, contract.HeaderQueuedAt: {"2026-03-01T12:00:00.000000001Z"},
		}
		require.NoError(t, deadletters.Publish(t.Context(), conn, "shop", "query", "s1_"+id, headers, []byte(body)))
		return "shop.query.s1_" + id
	}
	redrive := func(args ...string) outcome { return w.run("", append([]string{"dead", "redrive"}, args...)...) }
	const body = `{"sql":"SELECT 1"}`

	unknown := deadLetter("u", "unknown", body)
	require.Contains(t, redrive(unknown).err, "--force")
	all := redrive("--all", "--reason", "unknown", "--yes")
	require.Equal(t, exitFailure, all.code)
	require.Contains(t, all.err, "--force")
	require.Len(t, w.deadLetters(), 1)
	require.Equal(t, exitOK, redrive(unknown, "--force").code)

	taken := deadLetter("t", "result_id_taken", body)
	refused := redrive(taken, "--force")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "has taken effect")

	givenUp := deadLetter("g", "too_many_deliveries", body)
	require.Contains(t, redrive(givenUp).err, "--force", "its outcome is unknown")
	store := func(id, sequence, queued string) {
		_, err = results.Of(conn, "shop").Store(t.Context(), id, []byte(`{"job_id":"`+id+`","kind":"query","database":"shop","status":"failed",`+
			`"sequence":`+sequence+`,"queued_at":"`+queued+`"}`))
		require.NoError(t, err)
	}
	store("g", "7", "2026-03-01T12:00:00.000000001Z")
	require.Equal(t, exitOK, redrive(givenUp).code, "its result shows that it had no effect")
	for id, other := range map[string][2]string{
		"g_seq": {"8", "2026-03-01T12:00:00.000000001Z"}, "g_time": {"7", "2026-03-01T12:00:00.000000002Z"},
	} {
		store(id, other[0], other[1])
		require.Contains(t, redrive(deadLetter(id, "too_many_deliveries", body)).err, "--force", "another message's result proves nothing")
	}

	broken := deadLetter("b", "rejected", "nonsense")
	require.Contains(t, redrive(broken).err, "not a JSON object")
	long := strings.Repeat("x", 100)
	tooLong := deadLetter("l", "failed", body)
	require.NoError(t, deadletters.Publish(t.Context(), conn, "shop", "query", "s1_l",
		map[string][]string{contract.HeaderJobID: {long}, contract.HeaderReason: {"failed"}}, []byte(body)))
	require.Contains(t, redrive(tooLong).err, "--id")

	got := redrive(deadLetter("ok", "failed", body), "shop.query.s1_nosuch", "--json")
	require.Equal(t, exitFailure, got.code, "one of the two is not there")
	require.Contains(t, got.err, "s1_nosuch")
	require.Contains(t, got.out, `"new_id": "ok_r1"`)
}

func TestNextID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"a": "a_r1", "a_r1": "a_r2", "a_r9": "a_r10", "a_r0": "a_r0_r1", "a_rx": "a_rx_r1", "_r3": "_r3_r1",
		"s12_abc": "s12_abc_r1", "s12_abc_r1": "s12_abc_r2",
	} {
		require.Equal(t, want, client.NextID(id))
		require.True(t, contract.ValidID(want), want)
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	text := `{"b":1.10,"a":"<ü>","c":{"x":[12345678901234567890]}}`
	b, err := contract.ParseBody([]byte(" " + text + "\n"))
	require.NoError(t, err)
	require.Equal(t, text, string(b.Bytes()), "values stay as they were written")
	b = b.Without("b", "nosuch").With("a", "<&>")
	changed := `{"a":"<&>","c":{"x":[12345678901234567890]}}`
	require.Equal(t, changed, string(b.Bytes()))
	for _, bad := range []string{"", "[]", "1", `{"a":1} {}`, `{"a":1`, `{"a"}`, `{"a":1}x`, "nonsense"} {
		_, err := contract.ParseBody([]byte(bad))
		require.Error(t, err, bad)
	}
}
