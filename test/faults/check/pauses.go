package check

import (
	"slices"
	"strings"
	"time"
)

// Pause is a pause that an operator made.
type Pause struct {
	Database string    `json:"database"`
	Queue    string    `json:"queue,omitempty"`
	Schedule string    `json:"schedule,omitempty"`
	From     time.Time `json:"from"`  // when its record was known to be stored
	Until    time.Time `json:"until"` // when it was about to be removed; zero: never
}

// Delay is how long a read of the bucket of pauses took that the bench made itself.
type Delay struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// slowest is the longest of the bench's own reads between two times.
func (ix *index) slowest(from, until time.Time) (longest time.Duration) {
	for _, d := range ix.Delays {
		if d.Until.After(from) && d.From.Before(until) {
			longest = max(longest, d.Until.Sub(d.From))
		}
	}
	return longest
}

// readsOfAPause is how many reads one after the other a runner needs at most to get to know a pause, with the one that is under way.
const readsOfAPause = 3

// pausable are the kinds that a pause stops.
var pausable = []string{"query", "transaction", "statement", "call"}

// pauses: once a pause is known to be stored, and a moment has passed, nothing starts until it is removed.
func pauses(ix *index, report func(string, string, ...any)) {
	if ix.Skewed {
		return // when a job has started is only known by its runner's clock
	}
	for i := range ix.Pauses {
		p := &ix.Pauses[i]
		for j := range ix.Stored {
			a := &ix.Stored[j]
			r := ix.Requests[a.Result.Request()]
			if r == nil || a.Database != p.Database || !slices.Contains(pausable, a.Result.Kind) {
				continue
			}
			switch {
			case p.Schedule != "":
				if at := a.Result.QueuedAt; r.Schedule == p.Schedule && tickOf(a.Key).After(ix.inForce(p, at, "")) && p.before(at) {
					report(r.Name, "%s was published at %s, and its schedule was paused from %s to %s", a.Key, at, p.From, p.Until)
				}
			case p.Queue != "" && (r.Queue != p.Queue || r.Plain || a.Key != r.ID): // or published again, to none
			default:
				if at := a.Result.StartedAt; at.After(ix.inForce(p, at, a.Result.Runner)) && p.before(at) {
					report(r.Name, "%s was started by %s at %s, and %s was paused from %s to %s", a.Key, a.Result.Runner, at, p.Database+" "+p.Queue, p.From, p.Until)
				}
			}
		}
	}
}

// before reports whether the pause was not yet removed at a time.
func (p *Pause) before(at time.Time) bool { return p.Until.IsZero() || at.Before(p.Until) }

// awayFromNATS are the faults, besides those of NATS itself, during which a runner may learn nothing from NATS.
var awayFromNATS = []string{"way_nats", "way_slow", "all_stopped"}

// inForce is from when on a pause has to be in force for a runner that starts something at a time. One that was frozen reads it when it goes
// on; one that was cut off may start what it had, until its leases end. On a busy machine, all reads take longer.
func (ix *index) inForce(p *Pause, at time.Time, runner string) time.Time {
	known := p.From
	for i := range ix.Faults {
		f := &ix.Faults[i]
		until := f.Until
		switch {
		case !f.From.Before(at):
			continue
		case f.Name == "nats_stepdown" && !strings.Contains(f.Note, "_STATE"):
			continue // the bucket of pauses keeps its leader
		case strings.HasPrefix(f.Name, "nats_"), slices.Contains(awayFromNATS, f.Name):
			until = until.Add(ix.AckWait)
		case f.Name != "runner_stop" || runner != "" && !strings.HasPrefix(f.Note, runner+" "):
			continue
		}
		if until.After(known) {
			known = until
		}
	}
	return known.Add(ix.PauseBound).Add(readsOfAPause * ix.slowest(known.Add(-time.Second), at))
}

// tickOf is the tick of a job's id; zero: it has none.
func tickOf(id string) time.Time {
	tick, err := time.Parse(tickForm, id[strings.LastIndexByte(id, '-')+1:])
	if err != nil {
		return time.Time{}
	}
	return tick
}
