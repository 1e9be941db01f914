package prefect_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSyntax reads the example as Python does. It is not run: Prefect's server would be needed for it.
func TestSyntax(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("SKIPPED, not tested: no Python: %v", err)
	}
	files, err := filepath.Glob("*.py")
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		const parse = "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1])"
		out, err := exec.CommandContext(t.Context(), python, "-c", parse, file).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
