package check

import (
	"slices"
	"strings"
	"time"
)

// ConsumerDeleted is the fault that deletes a consumer; its note ends with the names of the stream and the consumer.
const ConsumerDeleted = "consumer_deleted"

// requeued: no runner requeues a message that another runner has started since.
func requeued(ix *index, report func(string, string, ...any)) {
	started := map[messageKey]*Answer{}
	for i := range ix.Stored {
		a := &ix.Stored[i]
		started[messageKey{a.Database, a.Result.Sequence}] = a
	}
	for _, n := range ix.Naks {
		a := started[messageKey{n.Database, n.Sequence}]
		if a == nil || a.Result.StartedAt.IsZero() || a.Result.Deliveries <= n.Deliveries || ix.recreated(n.Database, a.Result.StartedAt, n.At) {
			continue
		}
		if n.At.Sub(a.Result.StartedAt) > clockGrain {
			report(a.Result.Request(), "delivery %d of sequence %d of %s was requeued %s after %s had started delivery %d",
				n.Deliveries, n.Sequence, n.Database, n.At.Sub(a.Result.StartedAt), a.Result.Runner, a.Result.Deliveries)
		}
	}
}

// recreated reports whether a consumer of the database was deleted in a time: the one created in its place delivers what is
// unfinished and counts the deliveries from one again.
func (ix *index) recreated(database string, from, until time.Time) bool {
	return slices.ContainsFunc(ix.Faults, func(f Fault) bool {
		return f.Name == ConsumerDeleted && strings.Contains(f.Note, "_"+database+".") && f.Until.Add(clockGrain).After(from) && f.From.Before(until)
	})
}
