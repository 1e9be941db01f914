package spell_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/spell"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"timeout", "max_rows", "row_format", "id"}
	for word, want := range map[string]string{
		"timeout": "timeout", "TimeOut": "timeout", "tiemout": "timeout", "timeouts": "timeout", "imeout": "timeout",
		"max-rows": "max_rows", "maxrow": "max_rows", "something": "", "": "", "di": "id", strings.Repeat("timeout", 40): "",
	} {
		require.Equal(t, want, spell.Nearest(word, known, 2), "%q", word)
	}
	require.Empty(t, spell.Nearest("di", known, 0))
	require.Equal(t, "id", spell.Nearest("ID", known, 0))
}
