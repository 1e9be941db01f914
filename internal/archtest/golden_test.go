package archtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/jobs"
)

// TestEveryKindHasGoldenMessages holds that the contract of each kind is written down as messages that a test reads.
func TestEveryKindHasGoldenMessages(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	require.NotEmpty(t, jobs.Kinds())
	for _, kind := range jobs.Kinds() {
		for _, what := range []string{"job", "result"} {
			name := filepath.Join(root, "internal", "jobs", "testdata", "golden", kind+"."+what+".json")
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			require.NotEmpty(t, text)
		}
	}
}
