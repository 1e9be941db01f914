package delivery

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

// meanings is what deliveries mean: the first row whose words all hold. A word is a fact that is true, or not (with !), or
// one of several values of a fact.
var meanings = []struct {
	when string
	want step
}{
	{"stored=ours", replayResult},
	{"cause=stored_late stored=duplicate|foreign", reject},
	{"stored=duplicate|foreign ledgered row=unread", readRow},
	{"stored=duplicate|foreign row=ours started", recordUnknown},
	{"stored=duplicate|foreign row=ours refused", reject},
	{"stored=duplicate|foreign row=ours", storeUnderDerived},
	{"stored=duplicate", replayResult},
	{"stored=foreign effect=at_least_once redelivered", finishOvertaken},
	{"stored=foreign effect=exactly_once ledgered row=absent cause=may_run !taken", execute},
	{"stored=foreign ledgered row=absent", refuse},
	{"stored=foreign", reject},

	{"row=foreign", reject},
	{"row=ours|duplicate started", recordUnknown},
	{"row=ours|duplicate refused", reject},
	{"row=ours|duplicate", replayRow},
	{"taken row=unread", readRow},
	{"taken", awaitRow},
	{"known", recordOwn},

	{"stored=unread cause=undeliverable", readResult},
	{"stored=unread cause=invalid ledgered", readResult},
	{"stored=unread cause=invalid|invalid_everywhere|stored_late redelivered", readResult},
	{"stored=unread cause=may_run !replyOnly redelivered", readResult},
	{"stored=unread cause=may_run !replyOnly !derived effect=at_least_once|at_most_once", readResult},
	{"stored=unread cause=preempted !replyOnly redelivered effect=read_only|at_least_once", readResult},
	{"stored=unread cause=preempted !replyOnly !derived effect=at_least_once", readResult},
	{"row=unread cause=may_run redelivered effect=exactly_once|at_most_once", readRow},
	{"cause=may_run", execute},
	{"", finish},
}

var (
	ownerWords = []string{unread: "unread", absent: "absent", ours: "ours", duplicate: "duplicate", foreign: "foreign"}
	causeWords = []string{
		mayRun: "may_run", preempted: "preempted", invalid: "invalid", invalidEverywhere: "invalid_everywhere",
		undeliverable: "undeliverable", storedLate: "stored_late", failed: "failed",
	}
)

// words are the facts as the table writes them.
func (f *facts) words() map[string]string {
	w := map[string]string{
		"effect": string(f.effect), "cause": causeWords[f.cause], "stored": ownerWords[f.stored], "row": ownerWords[f.row],
	}
	for word, is := range map[string]bool{
		"ledgered": f.ledgered, "redelivered": f.redelivered, "derived": f.derived, "replyOnly": f.replyOnly,
		"started": f.started, "refused": f.refused, "known": f.known, "taken": f.taken,
	} {
		w[word] = fmt.Sprint(is)
	}
	return w
}

func holds(facts map[string]string, when string) bool {
	for _, word := range strings.Fields(when) {
		name, values, of := strings.Cut(word, "=")
		switch {
		case of && !slices.Contains(strings.Split(values, "|"), facts[name]),
			!of && word[0] == '!' && facts[word[1:]] != "false",
			!of && word[0] != '!' && facts[word] != "true":
			return false
		}
	}
	return true
}

// allFacts calls check with all combinations of facts that can be.
func allFacts(check func(f *facts)) {
	effects := []contract.Effect{"", contract.ReadOnly, contract.ExactlyOnce, contract.AtLeastOnce, contract.AtMostOnce}
	for i := range len(effects) * len(causeWords) * len(ownerWords) * len(ownerWords) << 8 {
		flag := func(bit int) bool { return i>>bit&1 == 1 }
		f := facts{
			ledgered: flag(0), redelivered: flag(1), derived: flag(2), replyOnly: flag(3),
			started: flag(4), refused: flag(5), known: flag(6), taken: flag(7),
		}
		rest := i >> 8
		f.stored, rest = owner(rest%len(ownerWords)), rest/len(ownerWords)
		f.row, rest = owner(rest%len(ownerWords)), rest/len(ownerWords)
		f.cause, rest = cause(rest%len(causeWords)), rest/len(causeWords)
		f.effect = effects[rest]
		readable := f.effect != "" || f.cause > preempted
		if readable && (!f.ledgered || f.effect == "" || f.effect.Fenced()) && (!f.replyOnly || f.effect == contract.ReadOnly) &&
			(f.cause != storedLate || f.derived && f.row == unread && !f.taken && !f.replyOnly) &&
			(!f.known || f.effect == contract.AtMostOnce && f.cause == mayRun) && (f.row > absent || !f.started && !f.refused) {
			check(&f)
		}
	}
}

func TestMeaning(t *testing.T) {
	t.Parallel()
	used := make([]int, len(meanings))
	allFacts(func(f *facts) {
		words := f.words()
		for i := range meanings {
			if holds(words, meanings[i].when) {
				used[i]++
				require.Equal(t, meanings[i].want, f.meaning(), "%s: %+v", meanings[i].when, words)
				return
			}
		}
	})
	require.NotContains(t, used, 0, "a row that never counts")
}

// TestMeaningIsSafe states what no delivery may do, whatever the table says.
func TestMeaningIsSafe(t *testing.T) {
	t.Parallel()
	allFacts(func(f *facts) {
		switch s := f.meaning(); s {
		case execute:
			require.Equal(t, mayRun, f.cause, "%+v", f)
			require.False(t, f.known || f.taken, "%+v", f)
			require.True(t, f.stored <= absent || f.stored == foreign && f.effect == contract.ExactlyOnce && f.ledgered && f.row == absent,
				"only a job that the ledger fences runs in spite of another job's result: %+v", f)
			require.LessOrEqual(t, f.row, absent, "%+v", f)
			require.True(t, !f.redelivered || f.replyOnly || f.stored != unread, "a redelivery looks for a result: %+v", f)
			require.True(t, !f.redelivered || !f.effect.Fenced() || f.row == absent, "and for a row: %+v", f)
		case finish:
			require.LessOrEqual(t, f.row, absent, "the first writer wins: %+v", f)
			require.True(t, !f.ledgered || f.recordsFirst() || f.cause == invalidEverywhere || f.cause == storedLate, "on record first: %+v", f)
			require.False(t, f.cause == storedLate && f.recordsFirst(), "it takes no id: %+v", f)
		case reject:
			require.NotEqual(t, ours, f.stored, "%+v", f)
			require.True(t, f.row != ours || f.refused, "an effect of ours may have happened: %+v", f)
			require.True(t, f.stored != foreign || !f.ledgered || f.row > absent || f.cause == storedLate, "not on record: %+v", f)
		case replayRow, storeUnderDerived:
			require.False(t, f.started, "%+v", f)
		case readResult:
			require.Equal(t, unread, f.stored, "once: %+v", f)
		case readRow:
			require.Equal(t, unread, f.row, "once: %+v", f)
			require.NotEqual(t, storedLate, f.cause, "its row is another message's: %+v", f)
		default:
		}
	})
}

func TestOnePlaceBuildsCompletions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if name != "completion.go" && !strings.HasSuffix(name, "_test.go") {
			require.NotContains(t, string(text), "completion{", name)
		}
	}
}
