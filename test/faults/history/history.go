// Package history builds the runner of another commit from the history of this repository, for tests of upgrades.
package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MissingError is returned where the checkout does not have a commit.
type MissingError struct{ Commit string }

// Error returns what is missing, and the remedy.
func (e *MissingError) Error() string {
	return "this checkout does not have the commit " + e.Commit + " (a shallow clone, or no clone): fetch the whole history"
}

// Build builds the runner of a commit of the repository at root, with crash points, in a folder, and returns its path.
func Build(ctx context.Context, root, commit, dir string) (path string, err error) {
	git := func(args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*", "-C", root}, args...)...)
	}
	if _, err := os.Stat(filepath.Join(root, ".git")); errors.Is(err, fs.ErrNotExist) {
		return "", &MissingError{Commit: commit}
	}
	if out, err := git("rev-parse", "--git-dir").CombinedOutput(); err != nil {
		return "", fmt.Errorf("read the repository: %w\n%s", err, out)
	}
	if git("cat-file", "-e", commit+"^{commit}").Run() != nil {
		return "", &MissingError{Commit: commit}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	archive, path := filepath.Join(dir, "sources.tar"), filepath.Join(dir, "runner")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "crashpoints", "-o", path, "./cmd/runner")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	for _, step := range []*exec.Cmd{git("archive", "-o", archive, commit), exec.CommandContext(ctx, "tar", "-xf", archive, "-C", dir), build} {
		if out, err := step.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the runner of %s: %s: %w\n%s", commit, strings.Join(step.Args, " "), err, out)
		}
	}
	return path, nil
}
