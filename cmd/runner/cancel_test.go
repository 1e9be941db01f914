package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", "SELECT 1 AS n", "--id", "done").code)
	late := w.run("", "cancel", "shop", "done")
	require.Equal(t, exitJob, late.code, late.err)
	require.Equal(t, "already finished: job done of shop succeeded\n", late.out)

	kept := w.run("", "cancel", "shop", "nowhere", "--wait", "50ms", "--by", "me", "--json")
	require.Equal(t, exitTimeout, kept.code, kept.err)
	var answer struct {
		Outcome   string `json:"outcome"`
		KeptUntil string `json:"kept_until"`
	}
	kept.json(t, &answer)
	require.Equal(t, "requested", answer.Outcome)
	require.NotEmpty(t, answer.KeptUntil)
	text := w.run("", "cancel", "shop", "nowhere", "--wait", "50ms")
	require.Equal(t, exitTimeout, text.code)
	require.Contains(t, text.out, "requested: job nowhere of shop is not known yet; the request expires at ")

	long := "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000000) SELECT count(*) AS n FROM c"
	require.Equal(t, exitOK, w.run("", "submit", "-d", "shop", "--sql", long, "--id", "long", "--job-timeout", "10m", "--no-wait").code)
	cancelled := w.run("", "cancel", "shop", "long", "--wait", "30s")
	require.Equal(t, exitOK, cancelled.code, cancelled.err)
	require.Equal(t, "cancelled: job long of shop\n", cancelled.out)
	require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--sql", long, "--id", "long").code, "submit reports it as any outcome")

	for _, args := range [][]string{{"cancel"}, {"cancel", "shop"}, {"cancel", "a.b", "x"}, {"cancel", "shop", "a b"}, {"cancel", "shop", "x", "--wait", "0s"}} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}
	unknown := w.run("", "cancel", "nosuch", "x")
	require.Equal(t, exitFailure, unknown.code)
	require.Contains(t, unknown.err, "no runner has the database nosuch")
	tooLong := w.run("", "cancel", "shop", "x", "--wait", "1h")
	require.Equal(t, exitFailure, tooLong.code)
	require.Contains(t, tooLong.err, "Dbrunner-Wait")
}

func TestCancelWithoutARunner(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	got := w.run("", "cancel", "shop", "x", "--no-audit")
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, "runner: no runner answers; nothing was cancelled\n", got.err)
}
