package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/test/faults/check"
)

// Mutants follow the source: a change to a place that one of them edits fails here, and so does one after which the edited
// package does not compile.
func TestMutantsFitTheSource(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range mutants() {
		path, err := m.overlay(root, t.TempDir())
		require.NoError(t, err, m.name)
		build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-overlay", path}, m.packages()...)...)
		build.Dir = root
		output, err := build.CombinedOutput()
		require.NoError(t, err, "%s: %s", m.name, output)
		require.NoError(t, knownNemeses(m.only))
		require.Subset(t, check.Rules(), m.caught)
	}
}

// packages are the folders of the edited files.
func (m mutant) packages() (folders []string) {
	for _, e := range m.edits {
		folders = append(folders, "./"+filepath.Dir(e.file))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
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
