package history_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/test/faults/history"
)

// repository is a new one with a module of one command in each of its commits, which prints the commit's name.
func repository(t *testing.T, commits ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	command := filepath.Join(root, "cmd", "runner")
	require.NoError(t, os.MkdirAll(command, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module m\n"), 0o600))
	git(t, root, "init", "--quiet")
	for _, name := range commits {
		text := "package main\n\nfunc main() { print(\"" + name + "\") }\n"
		require.NoError(t, os.WriteFile(filepath.Join(command, "main.go"), []byte(text), 0o600))
		git(t, root, "add", ".")
		git(t, root, "commit", "--quiet", "-m", name)
	}
	return root
}

func git(t *testing.T, root string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "-C", root}, args...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The runner that is built is the one of the commit, not the one of the folder.
func TestAnEarlierCommitIsBuilt(t *testing.T) {
	t.Parallel()
	path, err := history.Build(t.Context(), repository(t, "first", "second"), "HEAD~1", filepath.Join(t.TempDir(), "built"))
	require.NoError(t, err)
	out, err := exec.Command(path).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "first", string(out))
}

// What has no history, or only the last commit, is an error of its own.
func TestNoHistory(t *testing.T) {
	t.Parallel()
	shallow := filepath.Join(t.TempDir(), "shallow")
	git(t, "/", "clone", "--quiet", "--depth", "1", "file://"+repository(t, "first", "second"), shallow)
	for name, root := range map[string]string{"shallow": shallow, "no clone": t.TempDir()} {
		_, err := history.Build(t.Context(), root, "HEAD~1", t.TempDir())
		var missing *history.MissingError
		require.ErrorAs(t, err, &missing, name)
		require.ErrorContains(t, err, "does not have the commit HEAD~1", name)
	}
}
