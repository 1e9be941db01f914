package plaintext_test

import (
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/plaintext"
)

// TestVisible holds that what others wrote cannot steer a terminal, hide text, turn its direction or forge a line.
func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain, ä, 漢, 😀":           "plain, ä, 漢, 😀",
		"a\x1b[2J\x1b]0;title\a":   `a\x1b[2J\x1b]0;title\a`,
		"one\r\nFAKE succeeded":    `one\r\nFAKE succeeded`,
		"\u009b31m\u202etxt.exe":   `\u009b31m\u202etxt.exe`,
		"tab\tand back\bslash \\n": `tab\tand back\bslash \n`,
		"zero\u200bwidth\ufeff":    `zero\u200bwidth\ufeff`,
		"lines\u2028and\u2029":     `lines\u2028and\u2029`,
	} {
		require.Equal(t, want, plaintext.Visible(text, ""))
	}
	require.Equal(t, "a\nb\t", plaintext.Visible("a\nb\t", "\n\t"))
	for r := range unicode.MaxRune {
		if unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) {
			require.NotContains(t, plaintext.Visible(string(r), ""), string(r), "%U", r)
		}
	}
}
