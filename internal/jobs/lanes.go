package jobs

// Lane is a durable consumer of each database's stream, with slots of its own.
type Lane struct {
	Name     string
	Kinds    []string // whose jobs it delivers
	Outlives []string // of these, the kinds whose work, once started, goes on when its lease is lost

	// RunsWhenDown: it goes on while the database does not answer, behind a gate that only a full results stream closes, and
	// never waits for its turn behind other lanes' jobs.
	RunsWhenDown bool
	// Pausable: it stops while an operator has paused its database.
	Pausable bool

	slots   int // deliveries that one runner holds at the same time; 0: as the database's configuration says
	pending int // deliveries that the whole fleet holds at the same time; 0: as the configuration says
}

// Lanes returns the lanes that have kinds: a stream must not accept jobs that no runner runs.
func Lanes() []Lane {
	var out []Lane
	for _, l := range laneTable() {
		for _, k := range table() {
			if k.lane != l.Name {
				continue
			}
			l.Kinds = append(l.Kinds, k.name)
			if k.outlives {
				l.Outlives = append(l.Outlives, k.name)
			}
		}
		if len(l.Kinds) > 0 {
			out = append(out, l)
		}
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
func (l *Lane) MaxSettling(configured, databases int) int {
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
