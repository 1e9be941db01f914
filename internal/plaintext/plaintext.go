// Package plaintext shows texts of others, such as job ids and errors, to people, so that nothing in them hides or steers what is
// around them.
package plaintext

import (
	"strconv"
	"strings"
)

// Visible returns a text in which what a terminal or a browser would obey or hide (control characters, line breaks, changes of
// direction, what is invisible) is escaped as in a Go string, except for the characters to keep. Blanks and what prints stay.
func Visible(text, keep string) string {
	hidden := func(r rune) bool { return !strconv.IsGraphic(r) && !strings.ContainsRune(keep, r) }
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
