package check

import (
	"slices"
	"time"
)

// fleetSlots: of the jobs of a queue that took effect, no more were executed at the same time than the fleet has slots, and each
// was executed once.
func fleetSlots(ix *index, report func(string, string, ...any)) {
	times, queues := map[string]int{}, map[string][]*Span{}
	for i := range ix.Spans {
		s := &ix.Spans[i]
		r := ix.Requests[s.Request]
		if times[s.Request]++; times[s.Request] == 2 || r == nil {
			report(s.Request, "a job of a queue left two spans, or was not requested")
		}
		if r != nil && r.Queue != "" {
			queue := r.Database + "." + r.Queue
			queues[queue] = append(queues[queue], s)
		}
	}
	for queue, spans := range queues {
		if most, at := overlap(spans); most > ix.FleetSlots[queue] {
			report("", "%d jobs of the queue %s were executed at the same time, at %s: it has %d fleet slots", most, queue, at.Format(time.RFC3339Nano), ix.FleetSlots[queue])
		}
	}
}

// overlap is how many spans there are at most at one time, and when.
func overlap(spans []*Span) (most int, at time.Time) {
	slices.SortFunc(spans, func(a, b *Span) int { return a.From.Compare(b.From) })
	for i, s := range spans {
		n := 1
		for _, earlier := range spans[:i] {
			if earlier.Until.After(s.From) {
				n++
			}
		}
		if n > most {
			most, at = n, s.From
		}
	}
	return most, at
}
