package manager

import (
	"slices"
	"time"

	"dbrunner/internal/jobs"
)

// Lane is a durable consumer of each database's stream, with slots of its own.
type Lane struct {
	Name  string
	kinds []string
	// outlives are the kinds whose work, once started, goes on when its lease is lost, because it does not roll back whole.
	Outlives []string
	// runsWhenDown: it goes on while the database does not answer, behind a gate that only a full results stream closes, and
	// never waits for its turn behind other lanes' jobs.
	RunsWhenDown bool
	// timeout and maxTimeout are default and ceiling of its jobs' time limit where the configuration has none for their
	// kind; 0: the database's.
	timeout, maxTimeout time.Duration

	slots   int // deliveries that one runner holds at the same time; 0: as the database's configuration says
	pending int // deliveries that the whole fleet holds at the same time; 0: as the configuration says
}

// Lanes is the table of lanes, of which a lane without kinds is left out. A new kind joins the one whose slots it
// may use up: migrations and health checks have lanes of their own, so that they never wait behind work.
func Lanes() []Lane {
	return withKinds([]Lane{
		{Name: "work", kinds: []string{"query", "transaction", "statement"}, Outlives: []string{"statement"}},
		{
			Name: "migration", kinds: []string{"migration"}, Outlives: []string{"migration"}, slots: 1, pending: 1,
			timeout: time.Hour, maxTimeout: 24 * time.Hour,
		},
		{Name: "health", kinds: []string{"health"}, slots: 2, RunsWhenDown: true},
	})
}

// withKinds leaves out the kinds that this version does not know: a stream must not accept jobs that no runner runs.
func withKinds(table []Lane) []Lane {
	known := jobs.Kinds()
	var out []Lane
	for _, l := range table {
		l.kinds = slices.DeleteFunc(l.kinds, func(kind string) bool { return !slices.Contains(known, kind) })
		if len(l.kinds) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// SlotsOf returns how many deliveries of a lane this runner may hold.
func (l *Lane) SlotsOf(configured int) int {
	if l.slots > 0 {
		return l.slots
	}
	return configured
}

// SteadyOf returns how many of them whatever they take; 0: all.
func (l *Lane) SteadyOf(configured int) int {
	if l.slots > 0 {
		return 0
	}
	return configured
}

// pendingOf returns how many deliveries of a lane the fleet may hold.
func (l *Lane) pendingOf(configured int) int {
	if l.pending > 0 {
		return l.pending
	}
	return configured
}

// SettlingOf returns how many results of a lane may be on their way, of those of all databases: a lane with slots of its
// own needs no more than these, the others share the rest.
func (l *Lane) SettlingOf(configured, databases int) int {
	if l.slots > 0 {
		return l.slots
	}
	rest, sharing := configured/max(1, databases), 0
	for _, other := range Lanes() {
		rest -= other.slots
		if other.slots == 0 {
			sharing++
		}
	}
	return max(1, rest/sharing)
}
