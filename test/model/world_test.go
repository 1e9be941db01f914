package model

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// request is what a publisher wants.
type request struct {
	id      string // empty: none is given
	kind    string
	effect  string
	name    string // what distinguishes the bodies
	expires bool
}

func (q *request) body() string {
	body := fmt.Sprintf(`{"effect":%q,"reply_to":"_INBOX.publisher"`, q.effect)
	if q.id != "" {
		body += fmt.Sprintf(`,"id":%q`, q.id)
	}
	if q.expires {
		body += `,"expires_in":"5s"`
	}
	switch q.kind {
	case "transaction":
		return body + fmt.Sprintf(`,"statements":[{"sql":"INSERT INTO effects VALUES ('%s')","expect_rows":1}]}`, q.name)
	case "query":
		return body + fmt.Sprintf(`,"sql":"SELECT '%s'"}`, q.name)
	default:
		return body + fmt.Sprintf(`,"sql":"INSERT INTO effects VALUES ('%s')"}`, q.name)
	}
}

// same reports whether two requests count as the same.
func (q *request) same(other *request) bool {
	return q.id == other.id && q.kind == other.kind && q.effect == other.effect && q.name == other.name
}

// The faults of one history that are bounded, so that a history comes to its end.
const (
	mostDeaths  = 5
	mostExpired = 6 // leases that end early
)

// plan is what a history starts with.
type plan struct {
	runners  int
	requests []request
	strict   bool // every other runner's configuration allows none of the jobs
	late     bool // in the end, what the servers have left over takes effect where it can
}

// world is everything that the runners share, and the history so far.
type world struct {
	plan        plan
	messages    []*message
	server      *server
	results     map[string][]byte
	deadLetters map[string]string // reason by derived id
	asked       map[string]time.Time

	mu        sync.Mutex
	calls     []*call
	leftovers []*leftover
	runners   []*runner // the living ones
	former    []*runner
	stamps    time.Duration
	parked    int

	seen               map[string][]byte // what a plain subscriber has seen
	deadLettersRefused int
	lives              int
	deaths             int
	expired            int
	renewed            bool // the consumer was recreated
	history            []string
	problems           []string
}

func newWorld(p plan) *world {
	w := &world{
		plan: p, server: newServer(), results: map[string][]byte{}, deadLetters: map[string]string{},
		asked: map[string]time.Time{}, seen: map[string][]byte{},
	}
	for range p.runners {
		w.lives++
		w.runners = append(w.runners, w.newRunner(fmt.Sprintf("r%d", w.lives), p.strict && w.lives%2 == 0))
	}
	return w
}

// stamp is the servers' clock: no two of its times are the same. The mutex is held.
func (w *world) stamp() time.Time {
	w.stamps++
	return time.Now().Add(w.stamps)
}

func (w *world) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// park lets a call wait for its step; false: its runner is dead.
func (w *world) park(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.runner.died {
		return false
	}
	w.parked++
	c.number = w.parked
	w.calls = append(w.calls, c)
	return true
}

// unpark takes a call out; false: it has been taken out before. The mutex is held.
func (w *world) unpark(c *call) bool {
	i := slices.Index(w.calls, c)
	if i < 0 {
		return false
	}
	w.calls = slices.Delete(w.calls, i, i+1)
	return true
}

// callsOf returns the calls that a runner awaits, nil: that anybody awaits, in an order that is the same each time.
func (w *world) callsOf(r *runner) []*call {
	var calls []*call
	for _, c := range w.calls {
		if r == nil || c.runner == r {
			calls = append(calls, c)
		}
	}
	slices.SortFunc(calls, func(a, b *call) int { return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.number, b.number)) })
	return calls
}

// leave keeps what is under way. The mutex is held.
func (w *world) leave(l *leftover) {
	if l == nil {
		return
	}
	w.leftovers = append(w.leftovers, l)
	slices.SortStableFunc(w.leftovers, func(a, b *leftover) int { return cmp.Compare(a.name, b.name) })
}

// step is one thing that may happen next.
type step struct {
	name   string
	weight int
	do     func()
}

// run lets a step happen for each pick, then everything that is needed for an end, without further faults.
func (w *world) run(picks []int) {
	defer w.end()
	for _, pick := range picks {
		if !w.happen(pick) {
			return
		}
	}
	w.heal()
}

// happen lets one step happen; false: something is wrong.
func (w *world) happen(pick int) bool {
	steps := w.steps()
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := pick * total >> bits
	for _, s := range steps {
		if at < s.weight {
			w.take(s)
			break
		}
		at -= s.weight
	}
	w.check()
	return len(w.problems) == 0
}

func (w *world) take(s step) {
	w.history = append(w.history, s.name)
	s.do()
	synctest.Wait()
}

// locked makes a step's deed out of one that needs the mutex.
func (w *world) locked(do func()) func() {
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	}
}

// steps lists what may happen now, in an order that is the same each time, what is ordinary first.
func (w *world) steps() []step {
	w.mu.Lock()
	defer w.mu.Unlock()
	steps := w.progress()
	steps = append(steps,
		step{"a second passes", 6, func() { time.Sleep(time.Second) }},
		step{"seconds pass", 2, func() { time.Sleep(4 * time.Second) }},
		step{"an ack wait passes", 1, func() { time.Sleep(ackWait + time.Second) }})
	steps = append(steps, w.trouble()...)
	return append(steps, w.disasters()...)
}

// progress is what happens where nothing goes wrong. The mutex is held.
func (w *world) progress() []step {
	var steps []step
	for _, c := range w.callsOf(nil) {
		steps = append(steps, w.goOn(c, c.options()[0], 12))
	}
	for _, m := range w.messages {
		for _, r := range w.runners {
			if m.ready() && r.open && r.free > 0 {
				steps = append(steps, step{fmt.Sprintf("%v is delivered to %s", m, r.name), 8, func() { w.hand(m, r, 0) }})
			}
		}
	}
	if next := len(w.messages); next < len(w.plan.requests) {
		q := w.plan.requests[next]
		steps = append(steps, step{fmt.Sprintf("#%d is published: %s", next+1, q.body()), 6, w.locked(func() { w.publish(q) })})
	}
	for _, l := range w.leftovers {
		for _, o := range l.options() {
			steps = append(steps, w.comesTo(l, o))
		}
	}
	return steps
}

func (w *world) goOn(c *call, o option, weight int) step {
	return step{c.what + ": " + o.name, weight, w.locked(func() {
		w.unpark(c)
		o.do()
		close(c.done)
	})}
}

func (w *world) comesTo(l *leftover, o option) step {
	return step{l.name + ": " + o.name, 3, w.locked(func() {
		i := slices.Index(w.leftovers, l)
		w.leftovers = slices.Delete(w.leftovers, i, i+1)
		o.do()
	})}
}

func (w *world) hand(m *message, r *runner, number uint64) {
	w.mu.Lock()
	a := w.deliver(m, r, number)
	w.mu.Unlock()
	r.inbox <- a
}

// trouble is what goes wrong without anybody's death. The mutex is held.
func (w *world) trouble() []step {
	var steps []step
	for _, c := range w.callsOf(nil) {
		for _, o := range c.options()[1:] {
			steps = append(steps, w.goOn(c, o, 2))
		}
	}
	for _, m := range w.messages {
		if !m.gone && m.holder != nil && w.expired < mostExpired {
			steps = append(steps, step{fmt.Sprintf("the lease of %v ends", m), 1, w.locked(func() { m.holder = nil; w.expired++ })})
		}
		for _, r := range w.runners {
			if m.ready() && m.ever > 0 && r.open && r.free > 0 {
				steps = append(steps, step{fmt.Sprintf("%v is delivered to %s as if for the first time", m, r.name), 1, func() { w.hand(m, r, 1) }})
			}
		}
		if id := m.id(); w.asked[id].IsZero() {
			steps = append(steps, step{"the end of " + id + " is asked for", 1, w.locked(func() { w.asked[id] = w.stamp() })})
		}
	}
	for _, r := range w.runners {
		if r.knowsLess() {
			steps = append(steps, step{r.name + " hears what ends are asked for", 4, r.hear})
		}
	}
	if !w.renewed && len(w.messages) > 0 {
		steps = append(steps, step{"the consumer is recreated", 1, w.locked(w.renew)})
	}
	return steps
}

func (r *runner) knowsLess() bool { return len(r.canceled) < len(r.w.asked) }

// hear is how a runner gets to know requests to cancel.
func (r *runner) hear() {
	r.w.mu.Lock()
	for id, at := range r.w.asked {
		r.canceled[id] = at
	}
	r.w.mu.Unlock()
	r.lane.Cancel(r.executor.Canceled)
}

// renew starts the numbers of deliveries again; who holds a message now holds it no more. The mutex is held.
func (w *world) renew() {
	w.renewed = true
	for _, m := range w.messages {
		m.deliveries, m.doubtful, m.holder = 0, true, nil
	}
}

// disasters are deaths and ends of runners. The mutex is held.
func (w *world) disasters() []step {
	if w.deaths == mostDeaths {
		return nil
	}
	var steps []step
	for i, r := range w.runners {
		steps = append(steps,
			step{r.name + " dies", 1, func() { w.replace(i, func() {}, r.die) }},
			step{r.name + " is stopped", 1, func() { w.replace(i, func() {}, r.stop) }})
	}
	for _, c := range w.callsOf(nil) {
		i := slices.Index(w.runners, c.runner)
		if i < 0 {
			continue
		}
		for _, o := range c.options() {
			steps = append(steps, step{c.what + ": " + o.name + ", and the runner dies before it knows", 1, func() {
				w.replace(i, func() { w.unpark(c); o.do() }, c.runner.die)
			}})
		}
	}
	return steps
}

// replace ends a runner's life and starts another.
func (w *world) replace(i int, before, end func()) {
	w.mu.Lock()
	before()
	end()
	w.deaths++
	w.lives++
	name, strict := fmt.Sprintf("r%d", w.lives), w.plan.strict && w.lives%2 == 0
	w.former = append(w.former, w.runners[i])
	w.mu.Unlock()
	next := w.newRunner(name, strict)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runners[i] = next
}

// mostHealing bounds what an end may take: steps.
const mostHealing = 3000

// heal lets happen what has to happen, until every message has left the stream.
func (w *world) heal() {
	w.history = append(w.history, "(from here on nothing goes wrong)")
	for range mostHealing {
		if len(w.messages) == len(w.plan.requests) && !slices.ContainsFunc(w.messages, func(m *message) bool { return !m.gone }) {
			if w.settleRest(); len(w.problems) == 0 {
				w.judge()
			}
			return
		}
		w.take(w.remedy())
		if w.check(); len(w.problems) > 0 {
			return
		}
	}
	w.problem("after %d steps without a fault, messages are left in the stream", mostHealing)
}

// remedy is the next step towards the end.
func (w *world) remedy() step {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leftovers; len(l) > 0 {
		return w.comesTo(l[0], w.chosen(l[0]))
	}
	if steps := w.progress(); len(steps) > 0 {
		return steps[0]
	}
	return step{"a second passes", 1, func() { time.Sleep(time.Second) }}
}

func (w *world) chosen(l *leftover) option {
	options := l.options()
	if l.sure || w.plan.late {
		return options[0]
	}
	return options[len(options)-1]
}

// settleRest lets everything happen that is still under way when the stream is empty.
func (w *world) settleRest() {
	for len(w.leftovers) > 0 && len(w.problems) == 0 {
		w.take(w.remedy())
		w.check()
	}
}

// end ends all runners, so that nothing of the world is left.
func (w *world) end() {
	w.mu.Lock()
	for _, r := range w.runners {
		r.die()
	}
	for _, r := range w.former {
		r.die()
	}
	all := append(slices.Clone(w.former), w.runners...)
	w.mu.Unlock()
	for _, r := range all {
		r.running.Wait()
	}
}
