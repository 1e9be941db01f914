package archtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// minSentence is the length from which a sentence may stand in one document only, characters.
const minSentence = 60

// TestNoSentenceAppearsTwice refuses a sentence that two documents contain: one of them states it, the other links to it.
// Decision records and the changelog may repeat what a document says, because they do not change with it.
func TestNoSentenceAppearsTwice(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	first := map[string]string{} // sentence: document
	for _, f := range trackedFiles(t, root) {
		if filepath.Ext(f.name) != ".md" || !isOwnText(f.name) || f.name == "CHANGELOG.md" || strings.HasPrefix(f.name, "docs/decisions/") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.name)))
		if os.IsNotExist(err) {
			continue // deleted in the work tree
		}
		require.NoError(t, err)
		for _, s := range sentences(string(content)) {
			if other, found := first[s]; found && other != f.name {
				assert.Failf(t, "repeated sentence", "%s and %s contain: %s\nkeep it in one of them and link to it", other, f.name, s)
			}
			first[s] = f.name
		}
	}
	require.NotEmpty(t, first)
}

var (
	codeBlock   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	link        = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	blockEnd    = regexp.MustCompile(`\n\s*\n|\n *(?:[-*#|]|\d+\.) | \| |\|\n`)
	sentenceEnd = regexp.MustCompile(`[.:!?]\s`)
)

// sentences returns the sentences of a Markdown document that have at least minSentence characters, without code blocks,
// marks of emphasis and the targets of links. A list item and a cell of a table end a sentence.
func sentences(document string) []string {
	document = link.ReplaceAllString(codeBlock.ReplaceAllString(document, "\n\n"), "$1")
	document = strings.NewReplacer("*", "", "`", "").Replace(blockEnd.ReplaceAllString(document, "\n\n"))
	var out []string
	for block := range strings.SplitSeq(document, "\n\n") {
		for _, s := range sentenceEnd.Split(block+" ", -1) {
			if s = strings.Join(strings.Fields(s), " "); len(s) >= minSentence {
				out = append(out, s)
			}
		}
	}
	return out
}

func TestSentences(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("twelve chars ", 5) + "end"
	require.Equal(t, []string{long, long, long}, sentences(long+".\nShort one. **"+long+"** \n\n```\n"+long+"\n```\n| a | ["+long+"](x.md) |\n"))
}
