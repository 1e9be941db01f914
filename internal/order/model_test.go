package order_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/order"
)

// The promise: the COMMITs of an ordered queue are in stream order, each job has at most one effect, a job starts only when
// all jobs before it are finished, and the message of a job that failed leaves the queue only by a record for that message.
//
// The model has runners that may stop at every step, a consumer that delivers any message of the queue to anyone at any time, as
// often as it likes, jobs that may succeed or fail at each execution, and an operator who reads the queue's first message,
// looks for its failure, and writes the record at any time later, or writes one for any message without having looked.

var runners = flag.Int("runners", 2, "runners of the model")

const messages = 3

// stage is how far a runner has come with a message.
type stage uint8

const (
	none      stage = iota
	delivered       // it has the message
	maySettle       // it has read that its message is the first, and answers with what the ledger has
	mayStart        // the same, and starts
	executing       // its transaction is open
	recorded        // the ledger has the outcome: store it, answer
	awaits          // the job failed: it waits for the record
	acks            // the acknowledgment is on its way
)

type frame struct {
	message uint8
	stage   stage
}

// runner has its own message, and above it earlier ones that it has taken up as redeliveries.
type runner struct {
	frames [messages]frame
	depth  uint8
}

type row uint8

const (
	absent row = iota
	succeeded
	failed
)

// world is one state.
type world struct {
	stream   uint8 // a bit for each message that is there
	ledger   [messages + 1]row
	commits  [2 * messages]uint8
	effects  uint8
	record   uint8 // message that the operator's record names
	recorded uint8 // a bit for each message that a record has named
	operator uint8 // message whose failure the operator has seen, and whose record is not written yet
	runners  [3]runner
}

// rules are what is modeled; those of a mutant are wrong.
type rules struct {
	judge    func(order.Position, *order.Position) order.Turn
	stays    func(contract.Status) bool
	releases func(record *order.Position, own order.Position) bool
	unledger bool // a failure has no ledger row
}

func asTheyAre() rules {
	return rules{judge: order.Judge, stays: order.Stays, releases: order.Releases}
}

func at(message uint8) order.Position {
	return order.Position{Sequence: uint64(message), Stored: time.Unix(int64(message), 0)}
}

func (w *world) has(message uint8) bool { return w.stream>>message&1 == 1 }

func (w *world) first() *order.Position {
	for m := uint8(1); m <= messages; m++ {
		if w.has(m) {
			p := at(m)
			return &p
		}
	}
	return nil
}

// check returns which part of the promise a state breaks.
func (w *world) check() error {
	last := uint8(0)
	for _, m := range w.commits[:w.effects] {
		if m <= last {
			return fmt.Errorf("commits %v are not in stream order, each once", w.commits[:w.effects])
		}
		last = m
	}
	for m := uint8(1); m <= messages; m++ {
		switch {
		case w.has(m):
		case w.ledger[m] == failed && w.recorded>>m&1 == 0:
			return fmt.Errorf("message %d failed and left the queue without a record", m)
		}
	}
	return nil
}

// next calls each with every state that may follow.
func (w *world) next(r *rules, each func(world)) {
	for i := range *runners {
		w.run(r, i, each)
	}
	if first := w.first(); first != nil && w.operator == 0 && w.ledger[first.Sequence] == failed {
		n := *w
		n.operator = uint8(first.Sequence)
		each(n)
	}
	write := func(m uint8) {
		n := *w
		n.operator, n.record = 0, m
		n.recorded |= 1 << m
		each(n)
	}
	if w.operator != 0 {
		write(w.operator) // perhaps late
	}
	if w.recorded == 0 {
		for m := uint8(1); m <= messages; m++ {
			write(m) // without having looked
		}
	}
}

func (w *world) run(r *rules, i int, each func(world)) {
	with := func(change func(*world, *runner)) {
		n := *w
		change(&n, &n.runners[i])
		each(n)
	}
	if w.runners[i].depth == 0 {
		for m := uint8(1); m <= messages; m++ {
			if w.has(m) {
				with(func(_ *world, s *runner) { s.push(m) })
			}
		}
		return
	}
	with(func(_ *world, s *runner) { *s = runner{} }) // it is killed
	f := w.runners[i].top()
	switch f.stage { //nolint:exhaustive // a frame has another stage than none
	case delivered, awaits:
		with(func(n *world, s *runner) { n.look(r, s) })
	case maySettle:
		with(func(n *world, s *runner) { n.settle(r, s.top()) })
	case mayStart:
		with(func(_ *world, s *runner) { s.top().stage = executing })
	case executing:
		with(func(n *world, s *runner) { n.commit(r, s.top(), succeeded) })
		with(func(n *world, s *runner) { n.commit(r, s.top(), failed) })
	case recorded:
		with(func(n *world, s *runner) { n.settle(r, s.top()) })
	case acks:
		with(func(n *world, s *runner) {
			n.stream &^= 1 << s.top().message
			s.pop()
		})
	}
}

func (s *runner) top() *frame { return &s.frames[s.depth-1] }

func (s *runner) push(m uint8) {
	s.frames[s.depth] = frame{m, delivered}
	s.depth++
}

func (s *runner) pop() {
	s.depth--
	s.frames[s.depth] = frame{}
}

// look reads the queue's first message.
func (w *world) look(r *rules, s *runner) {
	f := s.top()
	first := w.first()
	switch r.judge(at(f.message), first) {
	case order.Gone:
		s.pop()
	case order.Earlier:
		s.push(uint8(first.Sequence))
	case order.Mine:
		switch {
		case f.stage == awaits:
			if record := at(w.record); r.releases(&record, at(f.message)) {
				f.stage = acks
			}
		case w.ledger[f.message] != absent:
			f.stage = maySettle
		default:
			f.stage = mayStart
		}
	}
}

// commit ends an execution: the ledger's first row decides.
func (w *world) commit(r *rules, f *frame, outcome row) {
	f.stage = recorded
	if w.ledger[f.message] != absent {
		return
	}
	if outcome == succeeded {
		w.commits[w.effects] = f.message
		w.effects++
	}
	if outcome == succeeded || !r.unledger {
		w.ledger[f.message] = outcome
		return
	}
	f.stage = awaits // stored as failed, in the results alone
}

func (w *world) settle(r *rules, f *frame) {
	status := contract.Succeeded
	if w.ledger[f.message] == failed {
		status = contract.Failed
	}
	f.stage = acks
	if r.stays(status) {
		f.stage = awaits
	}
}

// explore visits all states and returns the first error, and how many states there are.
func explore(r rules) (int, error) {
	start := world{stream: 1<<1 | 1<<2 | 1<<3}
	seen := map[world]bool{start: true}
	var found error
	for queue := []world{start}; len(queue) > 0 && found == nil; {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		w.next(&r, func(n world) {
			if seen[n] || found != nil {
				return
			}
			seen[n] = true
			if found = n.check(); found == nil {
				queue = append(queue, n)
			}
		})
	}
	return len(seen), found
}

// TestModel visits all states of two runners. "go test -run Model -runners 3" has a third one.
func TestModel(t *testing.T) {
	t.Parallel()
	states, err := explore(asTheyAre())
	require.NoError(t, err)
	t.Logf("%d states", states)
	require.Greater(t, states, 10_000)
}

// TestModelNotices breaks one rule at a time.
func TestModelNotices(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*rules){
		"a start without being the first": func(r *rules) {
			r.judge = func(own order.Position, first *order.Position) order.Turn {
				if turn := order.Judge(own, first); turn != order.Earlier {
					return turn
				}
				return order.Mine
			}
		},
		"a failure is acknowledged":  func(r *rules) { r.stays = func(contract.Status) bool { return false } },
		"any record releases":        func(r *rules) { r.releases = func(*order.Position, order.Position) bool { return true } },
		"a failure without a record": func(r *rules) { r.unledger = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := asTheyAre()
			change(&r)
			_, err := explore(r)
			require.Error(t, err)
			t.Log(err)
		})
	}
}
