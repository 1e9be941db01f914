package topology

// Database is one database's stream and its lanes.
type Database struct {
	Name  string
	Lanes []Lane

	// Features are ends of subjects, as in Lane.Filters, that the stream may have although no lane here has them: those of
	// optional kinds, which another configuration names. Only ApplyOptions.Remove takes them out.
	Features []string
}

// Lane is one durable consumer. Subjects of different lanes never overlap: the stream is a work queue.
type Lane struct {
	Name          string
	Queue         string // whose jobs it delivers; empty: it delivers those of no queue
	Kinds         []string
	Ordered       bool // its queue is an ordered one, which changes only while the queue is empty
	MaxAckPending int  // messages that the whole fleet holds at the same time, default 10,000

	// Subjects are the ends of its jobs' subjects, behind the database or the queue: "call.*". Empty: its kinds.
	Subjects []string
	// Filters are those of its consumer, from its creation, also of subjects that the stream does not have: the filters of a
	// consumer never change, because a message that waits under a new one would be lost. Empty: its subjects.
	Filters []string
	// Optional: a runner starts without its consumer and its subjects, and runs its jobs once they are there.
	Optional bool
}

// subjects returns the ends of the lane's subjects.
func (l *Lane) subjects() []string {
	if len(l.Subjects) > 0 {
		return l.Subjects
	}
	return l.Kinds
}

// filters returns the ends of the subjects that its consumer filters.
func (l *Lane) filters() []string {
	if len(l.Filters) > 0 {
		return l.Filters
	}
	return l.subjects()
}
