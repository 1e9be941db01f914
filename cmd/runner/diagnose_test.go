package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/inspect"
)

func TestDiagnose(t *testing.T) {
	t.Parallel()
	w := setup(t)
	diagnose := func(args ...string) (int, []inspect.Finding) {
		got := w.run("", append([]string{"diagnose", "shop", "--load", "100ms", "--json"}, args...)...)
		var answer struct {
			Findings []inspect.Finding `json:"findings"`
		}
		got.json(t, &answer)
		return got.code, answer.Findings
	}
	code, found := diagnose("--integrity")
	require.Equal(t, exitOK, code, "%+v", found)
	has(t, found, "ok", "shop", "its first page was read")
	has(t, found, "ok", "shop", "trivial reads a second")
	has(t, found, "ok", "shop", "journal_mode = wal")
	has(t, found, "ok", "shop", "0 rows of this database")
	has(t, found, "ok", "shop", "quick_check")
	table := w.run("", "diagnose", "shop", "--load", "0s")
	require.Equal(t, exitOK, table.code, table.err)
	require.Contains(t, table.out, "VERDICT")
	require.NotContains(t, table.out, "trivial reads")

	require.Equal(t, exitUsage, w.run("", "diagnose", "nosuch").code)
	require.Equal(t, exitUsage, w.run("", "diagnose").code)
	require.Equal(t, exitUsage, w.run("", "diagnose", "shop", "--load", "1h").code)
}

func TestDiagnoseReportsTheFailedStage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte("databases:\n  shop:\n    type: postgres\n"+
		"    connection_string: postgres://user:geheim@127.0.0.1:1/shop?sslmode=disable\n"), 0o600))
	got := runCommand(t, "", "diagnose", "shop", "--config", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.out, "fault    shop   tcp")
	require.Contains(t, got.out, "→ check that the server runs")
	require.NotContains(t, got.out+got.err, "geheim")
}
