package schedule

import (
	"cmp"
	"hash/fnv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
)

// Take takes over the next entry of the record's key, in the order of the stream.
func (r *Record) Take(e *schedules.Entry) {
	if e.Deleted {
		*r = Record{Removed: e.Sequence, RemovedAt: e.Time}
		return
	}
	if !r.Exists {
		r.Created, r.CreatedAt = e.Sequence, e.Time
	}
	r.Exists, r.Value, r.Revision, r.Stored = true, e.Value, e.Sequence, e.Time
}

// last is the sequence of the last entry that is known.
func (r *Record) last() uint64 { return max(r.Revision, r.Removed) }

// stateOf is the state in the last entry of its key.
func stateOf(e *schedules.Entry) State {
	s := State{Revision: e.Sequence, Stored: e.Time}
	if !e.Deleted {
		s.Exists = true
		s.Value, s.Err = contract.ReadScheduleState(e.Value)
	}
	return s
}

// entry is a schedule as the tracker has it.
type entry struct {
	key    string
	id     contract.ScheduleKey
	record Record
	state  State

	definition *Definition // of the record's revision
	fault      string
	readOf     uint64 // the revision that definition and fault are of

	wake       time.Time // when it is decided about next, by the server's clock; zero: when something changes
	generation uint64    // of the reading that record and state are from
	busy       bool      // a worker decides about it
	news       bool      // something came in meanwhile
	failures   int       // of work in a row
	problem    string    // why it does not fire
}

// define reads the record, unless it was read already.
func (e *entry) define(rules *Rules) {
	if !e.record.Exists {
		e.definition, e.fault, e.readOf = nil, "", 0
		return
	}
	if e.readOf == e.record.Revision {
		return
	}
	definition, err := rules.Read(e.id, e.record.Value, e.record.Stored)
	e.definition, e.fault, e.readOf = definition, "", e.record.Revision
	if err != nil {
		e.fault = oneLine(err)
	}
}

// maxFault bounds why a record cannot be used, in a state, in bytes.
const maxFault = 1000

// oneLine is an error that joins others, in one line.
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") + "…"
	}
	return text
}

// gone reports whether nothing is left of a schedule.
func (e *entry) gone() bool {
	return !e.record.Exists && e.record.Removed == 0 && e.state.Revision == 0 && !e.busy
}

// ranks is the time within which the runners of a fleet try a tick, each at a moment of its own.
const ranks = 150 * time.Millisecond

// rank is how long a runner leaves a tick of a schedule to others.
func rank(runner, key string, tick time.Time) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(runner + " " + key + " " + tick.UTC().Format(time.RFC3339))) // never fails
	return time.Duration(h.Sum32()%uint32(ranks/time.Microsecond)) * time.Microsecond
}

// queue orders schedules by when they are decided about next.
type queue []*waiting

// waiting is a schedule in the queue. One whose time has changed since is left out when it comes up.
type waiting struct {
	entry *entry
	at    time.Time
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*waiting)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// byKey orders entries.
func byKey(a, b *entry) int { return cmp.Compare(a.key, b.key) }
