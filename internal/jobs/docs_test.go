package jobs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func readDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "messages.md"))
	require.NoError(t, err)
	return string(text)
}

// TestDocsKnowTheContract: every kind, key, effect, status and error code is on the page for publishers.
func TestDocsKnowTheContract(t *testing.T) {
	t.Parallel()
	docs := readDocs(t)
	words := commonKeys()
	words = append(words, statementKeys...)
	words = append(words, isolations...)
	words = append(words, contract.HealthChecks()...)
	words = append(words, string(contract.Healthy), string(contract.Degraded), string(contract.Unhealthy))
	for _, k := range table() {
		words = append(words, k.name)
		words = append(words, k.keys...)
		for _, e := range k.effects {
			words = append(words, string(e))
		}
	}
	for _, s := range []contract.Status{contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown} {
		words = append(words, string(s))
	}
	words = append(words, declaredCodes(t)...)
	for _, word := range words {
		require.Contains(t, docs, "`"+word+"`")
	}
}

// declaredCodes reads all codes from where they are declared.
func declaredCodes(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "..", "contract", "codes.go"))
	require.NoError(t, err)
	var words []string
	for _, m := range regexp.MustCompile(`Code\w+\s+Code\s*= "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		words = append(words, m[1])
	}
	require.Greater(t, len(words), 5)
	return words
}

// TestCodesAreComplete: who counts by code knows every code that there is.
func TestCodesAreComplete(t *testing.T) {
	t.Parallel()
	var known []string
	for _, code := range contract.Codes() {
		known = append(known, string(code))
	}
	require.ElementsMatch(t, declaredCodes(t), known)
}

// TestDocsExamples: every job on the page for publishers is one.
func TestDocsExamples(t *testing.T) {
	t.Parallel()
	docs := readDocs(t)
	bodies := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)### Kind `(\\w+)`.*?```json\n(.*?)```").FindAllStringSubmatch(docs, -1) {
		bodies[m[2]] = m[1]
	}
	for _, m := range regexp.MustCompile(`nats pub --jetstream dbrunner\.jobs\.demo\.(\w+) '([^']*)'`).FindAllStringSubmatch(docs, -1) {
		bodies[m[2]] = m[1]
	}
	require.Len(t, bodies, 11)
	for body, kind := range bodies {
		mustDecode(t, testDecoder(), message(kind, strings.ReplaceAll(body, "replies.demo.", "replies.shop.")))
	}
}

// TestTroubleshootingKnowsEveryCode: the page on troubles has a row for each code of an answer, and for no other.
func TestTroubleshootingKnowsEveryCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	require.NoError(t, err)
	_, part, found := strings.Cut(string(page), "\n## Error codes\n")
	require.True(t, found)
	part, _, found = strings.Cut(part, "\n## ")
	require.True(t, found)
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]*)` \\|").FindAllStringSubmatch(part, -1) {
		rows = append(rows, m[1])
	}
	require.ElementsMatch(t, declaredCodes(t), rows)
}
