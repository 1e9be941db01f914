package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// where returns what the job command says of a job, and its exit code.
func (w *world) where(id string, args ...string) (jobView, int) {
	w.t.Helper()
	got := w.run("", append([]string{"job", "shop", id, "--json"}, args...)...)
	var v jobView
	got.json(w.t, &v)
	return v, got.code
}

func TestJobIsFound(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	require.Contains(t, w.run("", "job", "shop", "a").out, "has no result, and the queue is empty")
	for _, id := range []string{"a", "b", "c"} {
		require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--id", id, "--sql", "SELECT 1 AS n", "--no-wait").code)
	}
	_, err := w.js.Publish(t.Context(), "dbrunner.jobs.shop.query", []byte(`not JSON`))
	require.NoError(t, err)
	v, code := w.where("c")
	require.Equal(t, exitTimeout, code)
	require.Equal(t, "queued", v.State)
	require.Equal(t, "query", v.Kind)
	require.Equal(t, 2, *v.Ahead)
	v, code = w.where("c", "--scan", "2")
	require.Equal(t, exitFailure, code)
	require.Equal(t, "unknown", v.State)
	require.Contains(t, w.run("", "job", "shop", "c", "--scan", "2").out, "is not among the first 2 of the queue (--scan)")
	require.Contains(t, w.run("", "job", "shop", "nosuch").out, "is not among all 4 queued jobs")
	for _, line := range []string{"job shp a", "result get shp a"} {
		require.Equal(t, "runner: there is no database shp here: the stream DBRUNNER_RESULTS_shp is missing; check the name and the namespace\n",
			w.run("", strings.Fields(line)...).err)
	}
	v, code = w.where("nosuch")
	require.Equal(t, exitFailure, code)
	require.Equal(t, 4, v.Scanned)

	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	w.succeeds("c", "SELECT 1 AS n")
	v, code = w.where("c")
	require.Equal(t, exitOK, code)
	require.Equal(t, "finished", v.State)
	require.EqualValues(t, "succeeded", v.Status)
	require.NotEmpty(t, v.Result)

	w.awaitAckPending(0)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--id", "long", "--sql", endless, "--no-wait").code)
	w.awaitAckPending(1)
	v, code = w.where("long")
	require.Equal(t, exitTimeout, code)
	require.Equal(t, "running", v.State)
	require.Contains(t, w.run("", "job", "shop", "long").out, "running: job long of shop")
	require.Equal(t, exitOK, w.run("", "cancel", "shop", "long", "--wait", testTimeout.String()).code)
	v, _ = w.where("long")
	require.EqualValues(t, "cancelled", v.Status)
	require.Equal(t, exitOK, p.terminate())
}

func TestManyDeadLetters(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 3 {
		require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--id", fmt.Sprintf("q%d", i), "--sql", "SELECT * FROM nosuch").code)
	}
	require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--id", "typo", "--sql", "SELEC 1 FROM").code)
	list := func(args ...string) []deadLetterView {
		var views []deadLetterView
		w.run("", append([]string{"dead", "ls", "--json"}, args...)...).json(t, &views)
		return views
	}
	require.Eventually(t, func() bool { return len(list()) == 4 }, testTimeout, pollEvery, "they are stored after the results")
	require.Len(t, list("--code", "undefined_object"), 3)
	require.Len(t, list("--since", "1h"), 4)
	require.Empty(t, list("--since", "1ns"))
	newest := list("--newest", "2")
	require.Len(t, newest, 2)
	require.Equal(t, "typo", newest[1].JobID)
	require.Equal(t, "q2", newest[0].JobID)
	var counts []deadLetterCount
	w.run("", "dead", "ls", "--count", "--json").json(t, &counts)
	require.Equal(t, 3, counts[0].DeadLetters)
	require.Equal(t, "undefined_object", counts[0].Code)
	require.Contains(t, w.run("", "dead", "ls", "--count").out, "all")

	refused := w.run("", "dead", "redrive", "--all", "--code", "undefined_object")
	require.Equal(t, exitUsage, refused.code)
	require.Contains(t, refused.err, "3 dead letters would be published again; add --yes")
	require.Len(t, list(), 4)
	create := `{"id":"create","statements":[{"sql":"CREATE TABLE nosuch (n)"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "-k", "transaction", "-f", "-").code)
	redriven := w.run("", "dead", "redrive", "--all", "--code", "undefined_object", "--yes")
	require.Equal(t, exitOK, redriven.code, redriven.err)
	for i := range 3 {
		require.Contains(t, redriven.out, fmt.Sprintf("published as q%d_r1", i))
	}
	require.Len(t, list(), 1)

	require.Equal(t, exitUsage, w.run("", "dead", "rm", "--all").code)
	removed := w.run("", "dead", "rm", "--all", "--yes", "-d", "shop")
	require.Equal(t, exitOK, removed.code, removed.err)
	require.Contains(t, removed.out, "removed 1 of 1 dead letters")
	require.Empty(t, list())
	require.Equal(t, exitFailure, w.run("", "dead", "rm", newest[1].DeadLetter).code, "it is gone")
	require.Equal(t, exitOK, w.run("", "dead", "redrive", "--all", "--yes").code, "there is none")
}
