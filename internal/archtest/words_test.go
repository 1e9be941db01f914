package archtest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// retired are words that the project does not use for what they once named: as regular expressions over lower-case
// text whose names in mixed case are separate words, so that one row finds comments, strings, names and documents.
// They may be part of the phrases in but. left is the maximum number of places: lower it with each that goes; what stays
// are data and names of others.
var retired = []struct {
	words, but, use string
	left            int
}{
	{`anew`, "", "again", 0},
	{`for ever`, "", "indefinitely", 0},
	{`at once`, "", "immediately; together; at a time", 1},
	{`somebody|nobody|whoever`, "", "the actor", 4},
	{`what came of|whatever happens`, "", "outcome; the facts", 0},
	{`hand(s|ed|ing)? back`, "", "requeue, NAK", 5},
	{`hand(s|ed|ing)? (it|them|one|this|a job|jobs) back`, "", "requeue, NAK", 0},
	{`lets? go|letting go`, "", "leave to expire", 4},
	{`trips?`, `round trips?|round-trips?`, "round trips", 0},
	{`glances?|glanced`, "", "direct get", 0},
	{`suspects?`, "", "quarantine", 1},
	{`vigils?`, "", "process stall", 0},
	{`beacons?`, "", "heartbeat publisher", 0},
	{`namesakes?`, "", "duplicate instance", 0},
	{`doors?`, `door_closed`, "run endpoint", 0},
	{`doom(s|ed)?`, "", "broken", 1},
	{`bury|bur(ies|ied|ying)`, "", "destroy", 0},
	{`lent`, "", "burst slots; pooled", 0},
	{`steady`, "", "base slots", 0},
	{`strays?`, "", "orphan message", 8},
	{`patience|patient`, "", "timeout, retry", 0},
	{`several rows`, "", "multi-row INSERT; multiple", 0},
	{`told`, "", "reported, returned, logged", 0},
	{`tells?|telling`, `file.tell`, "return, report, log", 0},
	{`begun|begins|began`, `migration_statement_begun`, "start", 3},
	{`letters?`, `after_letter|dead[_-]?letters?|dead letters?|(upper|lower) ?case letters?|needs a letter|letters? (and|or|or a) digits?|letters, digits|a letter or a digit`, "dead letter", 35},
	{`says? (what|where|how|whether|why|which|that)`, "", "return, report, log", 5},
}

// anySpace joins the words of a row: a phrase may span two lines, and two comment markers.
const anySpace = `(?:[\s/*#|>]+)`

// phrase returns the expression of whole words, which may be parts of a name.
func phrase(words string) *regexp.Regexp {
	return regexp.MustCompile(`(?:\b|_)(?:` + strings.ReplaceAll(words, " ", anySpace) + `)(?:\b|_)`)
}

// hump is where a name in mixed case has its next word.
var hump = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// TestRetiredWords refuses more uses of a retired word than are left.
func TestRetiredWords(t *testing.T) {
	t.Parallel()
	texts := ownTexts(t)
	for _, r := range retired {
		places := find(texts, r.words, r.but)
		switch n := len(places); {
		case n > r.left:
			assert.Failf(t, "retired word", "%s is used %d times, at most %d are left; use: %s\n%s", r.words, n, r.left, r.use, strings.Join(places, "\n"))
		case n < r.left:
			t.Logf("%s: %d, lower its row from %d", r.words, n, r.left)
		}
	}
}

// find returns the places of words that are not part of the phrases in but, as file:line.
func find(texts []text, words, but string) []string {
	pattern, allowed := phrase(words), phrase(but)
	var places []string
	for _, text := range texts {
		found := pattern.FindAllIndex(text.content, -1)
		if len(found) == 0 {
			continue
		}
		var skip [][]int
		if but != "" {
			skip = allowed.FindAllIndex(text.content, -1)
		}
		for _, at := range found {
			if !slices.ContainsFunc(skip, func(s []int) bool { return s[0] <= at[0] && at[1] <= s[1] }) {
				places = append(places, fmt.Sprintf("%s:%d", text.name, 1+bytes.Count(text.content[:at[0]], []byte("\n"))))
			}
		}
	}
	return places
}

func TestFindRetiredWords(t *testing.T) {
	t.Parallel()
	for content, n := range map[string]int{
		"a trip": 1, "a round trip": 0, "round\n\t// trips and a trip": 1, "shared trip": 1, "trip_count": 1, "tripod": 0, "": 0,
	} {
		require.Len(t, find([]text{{"a.go", []byte(content)}}, `trips?`, `round trips?`), n, content)
	}
	require.Len(t, find([]text{{"a.go", []byte("handed\n// back")}}, `hand(s|ed)? back`, ""), 1)
}

// text is one file of the project's own words.
type text struct {
	name    string
	content []byte
}

// ownTexts returns the sources and documents of the project, in lower case, names in mixed case split into words.
func ownTexts(t *testing.T) []text {
	t.Helper()
	root := moduleRoot(t)
	var out []text
	for _, f := range trackedFiles(t, root) {
		if !isOwnText(f.name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f.name)))
		if os.IsNotExist(err) {
			continue // deleted in the work tree
		}
		require.NoError(t, err)
		out = append(out, text{f.name, bytes.ToLower(hump.ReplaceAll(content, []byte("$1 $2")))})
	}
	return out
}

// isOwnText reports whether a file is source or a document, not data, and not the list of the words itself.
func isOwnText(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".md", ".sh", ".yml", ".yaml", ".tmpl", ".py":
	default:
		return name == "Makefile" || name == "Dockerfile"
	}
	return !strings.Contains(name, "testdata/") && filepath.Base(name) != "words_test.go"
}
