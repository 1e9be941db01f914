package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/test/faults/check"
)

// Mutants follow the source: a change to a place that one of them edits fails here.
func TestMutantsFitTheSource(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range mutants() {
		path, err := m.overlay(root, t.TempDir())
		require.NoError(t, err, m.name)
		require.FileExists(t, path)
		require.NoError(t, knownNemeses(m.only))
		require.Subset(t, check.Rules(), m.caught)
	}
}

// docs/reliability.md has one row per mutant.
func TestEveryMutantIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reliability.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| mutant | caught under | at |\n|---|---|---|\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	require.Len(t, strings.Split(table, "\n"), len(mutants()))
}

func TestSkewedClockFitsTheLibrary(t *testing.T) {
	t.Parallel()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	_, err = skewed().overlay(strings.TrimSpace(string(root)), t.TempDir())
	require.NoError(t, err)
}

func TestMutantThatIsOutOfDate(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	m := mutant{name: "old", edits: []edit{{"internal/worker/settle.go", "no such line", ""}}}
	_, err = m.overlay(root, t.TempDir())
	require.ErrorContains(t, err, "mutant old is out of date")
}
