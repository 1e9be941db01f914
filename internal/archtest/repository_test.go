package archtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxTracked is the maximum size of a tracked file, bytes: build products and data sets are larger.
const maxTracked = 1 << 20

// trackedFile is one entry of git's index.
type trackedFile struct {
	mode, name string
}

// TestRepositoryHoldsSourcesOnly refuses what a build leaves behind: large files, and executables that are not scripts,
// whether or not their mode says so.
func TestRepositoryHoldsSourcesOnly(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	for _, f := range trackedFiles(t, root) {
		if problem := refuse(t, root, f); problem != "" {
			assert.Failf(t, "not a source file", "%s: %s; remove it from the index and add it to .gitignore", f.name, problem)
		}
	}
}

// trackedFiles returns git's index.
func trackedFiles(t *testing.T, root string) []trackedFile {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skip("not a git checkout: there is no index to read")
	}
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "--stage", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	var files []trackedFile
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		state, name, ok := strings.Cut(line, "\t")
		require.True(t, ok, line)
		mode, _, _ := strings.Cut(state, " ")
		files = append(files, trackedFile{mode: mode, name: name})
	}
	require.NotEmpty(t, files)
	return files
}

// refuse returns why a file does not belong into the repository, or "".
func refuse(t *testing.T, root string, f trackedFile) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.name)))
	if os.IsNotExist(err) {
		return "" // deleted in the work tree
	}
	require.NoError(t, err)
	script := bytes.HasPrefix(content, []byte("#!"))
	switch {
	case f.mode == "120000":
		return "a symbolic link"
	case len(content) > maxTracked:
		return "larger than 1 MiB"
	case isProgram(content):
		return "a compiled program or library"
	case f.mode == "100755" && !script:
		return "executable, but not a script"
	}
	return ""
}

// isProgram reports whether content starts like an ELF, Mach-O or PE file, or a library archive.
func isProgram(content []byte) bool {
	for _, magic := range []string{
		"\x7fELF", "MZ\x90", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "!<arch>\n",
		"\x00asm",
	} {
		if bytes.HasPrefix(content, []byte(magic)) {
			return true
		}
	}
	return false
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, c := range map[string]struct{ mode, content, problem string }{
		"script":      {"100755", "#!/bin/sh\n", ""},
		"source":      {"100644", "package a\n", ""},
		"executable":  {"100755", "package a\n", "executable, but not a script"},
		"elf":         {"100755", "\x7fELF\x02", "a compiled program or library"},
		"elf, 0644":   {"100644", "\x7fELF\x02", "a compiled program or library"},
		"archive":     {"100644", "!<arch>\n", "a compiled program or library"},
		"large":       {"100644", strings.Repeat("x", maxTracked+1), "larger than 1 MiB"},
		"large shell": {"100755", "#!/bin/sh\n" + strings.Repeat("x", maxTracked), "larger than 1 MiB"},
		"link":        {"120000", "target", "a symbolic link"},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(c.content), 0o600))
		require.Equal(t, c.problem, refuse(t, root, trackedFile{mode: c.mode, name: name}), name)
	}
}
