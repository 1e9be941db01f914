package model

import (
	"flag"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// histories is how many are tried of each family where the command line (-rapid.checks) says nothing else.
const histories = "200"

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", histories)
	goleak.VerifyTestMain(m)
}

// families are the requests that meet each other under one id.
var families = map[string][]request{
	"exactly_once": {
		{id: "job", kind: "transaction", effect: "exactly_once", name: "a"},
		{id: "job", kind: "transaction", effect: "exactly_once", name: "b"},
		{id: "job", kind: "transaction", effect: "exactly_once", name: "a", expires: true},
		{kind: "transaction", effect: "exactly_once", name: "c"},
	},
	"at_most_once": {
		{id: "job", kind: "statement", effect: "at_most_once", name: "a"},
		{id: "job", kind: "statement", effect: "at_most_once", name: "b"},
		{id: "job", kind: "statement", effect: "at_most_once", name: "a", expires: true},
		{kind: "statement", effect: "at_most_once", name: "c"},
	},
	"all": {
		{id: "job", kind: "transaction", effect: "exactly_once", name: "a"},
		{id: "job", kind: "transaction", effect: "at_least_once", name: "b"},
		{id: "job", kind: "statement", effect: "at_most_once", name: "c"},
		{id: "job", kind: "query", effect: "read_only", name: "d"},
		{id: "job", kind: "statement", effect: "at_least_once", name: "e"},
	},
}

// In every order of events, each job finishes once, its result is true, and its effect is there as often as it was
// promised.
func TestHistories(t *testing.T) {
	t.Parallel()
	for name, requests := range families {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) { tryHistory(t, rt, requests) })
		})
	}
}

func tryHistory(t *testing.T, rt *rapid.T, requests []request) {
	t.Helper()
	p := plan{
		runners:  rapid.IntRange(1, 3).Draw(rt, "runners"),
		requests: rapid.SliceOfN(rapid.SampledFrom(requests), 1, 3).Draw(rt, "requests"),
		late:     rapid.Bool().Draw(rt, "late"),
		strict:   rapid.Bool().Draw(rt, "strict"),
	}
	picks := rapid.SliceOfN(even(), 30, 120).Draw(rt, "picks")
	w := runHistory(t, p, picks)
	if len(w.problems) > 0 {
		rt.Fatalf("%s\nafter:\n\t%s", strings.Join(w.problems, "\n"), strings.Join(w.history, "\n\t"))
	}
}

// runHistory runs one history.
func runHistory(t *testing.T, p plan, picks []int) (w *world) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w = newWorld(p)
		synctest.Wait()
		w.run(picks)
	})
	return w
}

const bits = 12

// even draws numbers below 1<<bits that are all as likely, which rapid's own are not.
func even() *rapid.Generator[int] {
	return rapid.Custom(func(t *rapid.T) int {
		n := 0
		for range bits {
			n <<= 1
			if rapid.Bool().Draw(t, "bit") {
				n++
			}
		}
		return n
	})
}
