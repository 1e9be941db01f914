package jobs

import (
	"slices"

	"dbrunner/contract"
)

// Lane is a durable consumer of each database's stream, with slots of its own.
type Lane struct {
	Name     string
	Queue    string   // whose jobs it delivers; empty: it delivers those of no queue
	Ordered  bool     // its queue's jobs take effect one at a time, in the order of the stream
	Kinds    []string // whose jobs it delivers
	Outlives []string // of these, the kinds whose work, once started, goes on when its lease is lost

	// RunsWhenDown: it goes on while the database does not answer, behind a gate that only a full results stream closes, and
	// never waits for its turn behind other lanes' jobs.
	RunsWhenDown bool
	// Pausable: it stops while an operator has paused its database.
	Pausable bool

	// Subjects are the ends of its jobs' subjects, and Filters those of its consumer, behind the database or the queue; nil: its
	// kinds.
	Subjects, Filters []string
	// Optional: a runner starts without its consumer and its subjects.
	Optional bool

	slots   int // deliveries that one runner holds at the same time; 0: as the database's configuration says
	pending int // deliveries that the whole fleet holds at the same time; 0: as the configuration says
}

// Lanes returns the lanes of a database whose configuration has these kinds. They have all kinds but optional ones that it
// does not name: a stream must not accept jobs that no runner runs.
func Lanes(configured []string) []Lane {
	var out []Lane
	for _, l := range laneTable() {
		for _, k := range table() {
			if k.lane != l.Name || k.optional && !slices.Contains(configured, k.enabledBy()) {
				continue
			}
			l.add(&k)
			l.Optional = l.Optional || k.optional
		}
		if len(l.Kinds) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// add adds a kind to the lane.
func (l *Lane) add(k *kind) {
	if !slices.Contains(l.Kinds, k.name) {
		l.Kinds = append(l.Kinds, k.name)
	}
	if len(l.Filters) > 0 {
		end := k.name
		if k.named {
			end += ".*"
		}
		l.Subjects = append(l.Subjects, end)
	}
	if k.outlives {
		l.Outlives = append(l.Outlives, k.name)
	}
}

// QueueLane returns the lane of a queue, of a database whose configuration has these kinds. slots and pending are the jobs
// that one runner and the whole fleet may have in flight.
func QueueLane(queue string, slots, pending int, ordered bool, configured []string) Lane {
	l := Lane{
		Name: contract.QueueConsumer(queue), Queue: queue, Ordered: ordered, Pausable: true, Optional: true, Filters: []string{">"}, slots: slots, pending: pending,
	}
	for _, k := range table() {
		if k.queued && (!ordered || k.ordered) && (!k.optional || slices.Contains(configured, k.enabledBy())) {
			l.add(&k)
		}
	}
	return l
}

// Features returns the ends of subjects of optional lanes: a stream may have them where another configuration names a kind.
func Features() []string {
	var out []string
	for _, l := range laneTable() {
		out = append(out, l.Filters...)
	}
	return out
}

// LaneOf names the lane that delivers jobs of a kind; "work" for one that this version does not know.
func LaneOf(name string) string {
	for _, k := range table() {
		if k.name == name {
			return k.lane
		}
	}
	return "work"
}

// Slots returns how many deliveries of the lane one runner may hold.
func (l *Lane) Slots(configured int) int {
	if l.slots > 0 {
		return l.slots
	}
	return configured
}

// BaseSlots returns how many of its slots are base slots; 0: all.
func (l *Lane) BaseSlots(configured int) int {
	if l.slots > 0 {
		return 0
	}
	return configured
}

// MaxAckPending returns how many deliveries of the lane the fleet may hold.
func (l *Lane) MaxAckPending(configured int) int {
	if l.pending > 0 {
		return l.pending
	}
	return configured
}

// MaxSettling returns how many results of a lane may be on their way, of those of all databases: a lane with slots of its
// own needs no more than these, the others share the rest.
func (l *Lane) MaxSettling(configured, databases int, all []Lane) int {
	switch {
	case l.Queue != "":
		return 0 // the slots bound all jobs in flight
	case l.slots > 0:
		return l.slots
	}
	rest, sharing := configured/max(1, databases), 0
	for _, other := range all {
		if other.Queue == "" {
			rest -= other.slots
		}
		if other.slots == 0 {
			sharing++
		}
	}
	return max(1, rest/sharing)
}
