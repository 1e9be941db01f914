package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/report"
	"dbrunner/internal/worker"
)

const ackWait = 10 * time.Second

var errDown = errors.New("down")

// stream is a work queue: one consumer, explicit acknowledgement, redelivery in stream order when ackWait has passed.
type stream struct {
	mu         sync.Mutex
	wake       chan struct{}
	ready      []*entry
	entries    map[uint64]*entry
	journal    map[uint64][]string // what happened to a job, in order
	faults     []string            // what must never happen
	down       bool                // extensions and confirmations fail
	sessions   int                 // intake sessions under way
	slowAnswer time.Duration       // what the confirmation of an extension needs to arrive
	asked      time.Time           // when the last extension was asked for
	slowStop   time.Duration       // what an intake session needs to end
	over       int                 // deliveries above the credits, to be made by a faulty bus
	sequence   uint64
}

type entry struct {
	sequence   uint64
	stored     time.Time
	deliveries uint64
	holder     *delivered // the delivery whose lease is running; nil: ready, delayed or gone
	lease      *time.Timer
	gone       bool
}

func newStream() *stream {
	return &stream{wake: make(chan struct{}), entries: map[uint64]*entry{}, journal: map[uint64][]string{}}
}

// publish adds n jobs, delivered that often before.
func (s *stream) publish(n int, deliveries uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.sequence++
		e := &entry{sequence: s.sequence, stored: time.Now(), deliveries: deliveries}
		s.entries[e.sequence] = e
		s.queue(e)
	}
}

// queue makes an entry ready, in stream order. The mutex is held.
func (s *stream) queue(e *entry) {
	s.ready = append(s.ready, e)
	slices.SortFunc(s.ready, func(a, b *entry) int { return int(a.sequence) - int(b.sequence) })
	close(s.wake)
	s.wake = make(chan struct{})
}

func (s *stream) note(sequence uint64, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal[sequence] = append(s.journal[sequence], what)
}

func (s *stream) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// of returns what happened to a job.
func (s *stream) of(sequence uint64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.journal[sequence])
}

func (s *stream) found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

func (s *stream) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// left returns how many messages are still in the stream.
func (s *stream) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.entries {
		if !e.gone {
			n++
		}
	}
	return n
}

// kill drops a runner without acknowledgments: its leases expire, and its later messages are ignored.
func (s *stream) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.holder != nil {
			e.holder.dead = true
		}
	}
}

func (s *stream) sessionsNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func (s *stream) deliveriesOf(sequence uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[sequence].deliveries
}

// Run delivers what is ready as long as there are credits.
func (s *stream) Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, worker.Message)) error {
	s.mu.Lock()
	s.sessions++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.sessions--
		s.mu.Unlock()
	}()
	defer func() { time.Sleep(s.slowStop) }()
	free := 0
	for ctx.Err() == nil {
		d, m, wake := s.next(free > 0)
		if m != nil {
			free = max(free-1, 0)
			handle(d, m)
			continue
		}
		if d, m, _ = s.nextOver(); m != nil {
			handle(d, m)
			continue
		}
		select {
		case n := <-credits:
			free += n
		case <-wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// nextOver is next without a credit.
func (s *stream) nextOver() (delivery.Delivery, worker.Message, <-chan struct{}) {
	s.mu.Lock()
	may := s.over > 0 && len(s.ready) > 0
	if may {
		s.over--
	}
	s.mu.Unlock()
	return s.next(may)
}

func (s *stream) next(mayTake bool) (delivery.Delivery, worker.Message, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !mayTake || len(s.ready) == 0 {
		return delivery.Delivery{}, nil, s.wake
	}
	e := s.ready[0]
	s.ready = s.ready[1:]
	e.deliveries++
	m := &delivered{stream: s, entry: e}
	e.holder = m
	s.lend(e, m)
	d := delivery.Delivery{
		Message: jobs.Message{
			Database: "db", Kind: kindOf(e.sequence), Sequence: e.sequence, Timestamp: e.stored,
			Body: []byte(strconv.FormatUint(e.sequence, 10)),
		},
		Deliveries: e.deliveries, MaybeRedelivered: e.deliveries > 1,
	}
	s.journal[e.sequence] = append(s.journal[e.sequence], "deliver")
	return d, m, nil
}

// kindOf makes the jobs whose sequence is a multiple of 1000 ones that outlive their lease.
func kindOf(sequence uint64) string {
	if sequence%1000 == 0 {
		return "statement"
	}
	return "query"
}

// lend starts a lease. The mutex is held.
func (s *stream) lend(e *entry, m *delivered) {
	if e.lease != nil {
		e.lease.Stop()
	}
	e.lease = time.AfterFunc(ackWait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.holder == m && !e.gone {
			e.holder = nil
			s.queue(e)
		}
	})
}

// delivered is one delivery of an entry.
type delivered struct {
	stream *stream
	entry  *entry
	verbs  int
	dead   bool // its runner was killed
}

func (m *delivered) unheard() bool {
	m.stream.mu.Lock()
	defer m.stream.mu.Unlock()
	return m.dead
}

func (m *delivered) Ack() error { return m.ack("ack") }

func (m *delivered) AckConfirmed(context.Context) error {
	m.stream.mu.Lock()
	down := m.stream.down
	m.stream.mu.Unlock()
	if down {
		return errDown
	}
	return m.ack("ack confirmed")
}

func (m *delivered) ack(what string) error {
	if m.unheard() {
		return nil
	}
	m.verb(what)
	m.stream.mu.Lock()
	defer m.stream.mu.Unlock()
	m.entry.gone = true
	return nil
}

// verb notes a verb; a delivery may have one only.
func (m *delivered) verb(what string) {
	m.stream.note(m.entry.sequence, what)
	m.stream.mu.Lock()
	m.verbs++
	twice := m.verbs > 1
	m.stream.mu.Unlock()
	if twice {
		m.stream.fault("job %d: a second verb, %s", m.entry.sequence, what)
	}
}

func (m *delivered) Nak(delay time.Duration) error {
	if m.unheard() {
		return nil
	}
	what := "nak"
	if delay > 0 {
		what = "nak later"
	}
	m.verb(what)
	s, e := m.stream, m.entry
	s.mu.Lock()
	stale := e.holder != m
	if !stale {
		e.holder = nil
		if delay == 0 {
			s.queue(e)
		} else {
			time.AfterFunc(delay, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.queue(e)
			})
		}
	}
	s.mu.Unlock()
	if stale {
		s.fault("job %d: requeued after its lease was lost", e.sequence)
	}
	return nil
}

func (m *delivered) InProgress(ctx context.Context) error {
	s := m.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Now()
	if s.down || m.dead {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	s.journal[m.entry.sequence] = append(s.journal[m.entry.sequence], "extend")
	if m.entry.holder == m {
		s.lend(m.entry, m)
	}
	slow := s.slowAnswer
	s.mu.Unlock()
	time.Sleep(slow)
	s.mu.Lock()
	return nil
}

// executor runs jobs by a function; it counts how many run concurrently.
type executor struct {
	stream *stream
	run    func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome
	taken  func(out delivery.Outcome, existing []byte) delivery.Outcome

	mu          sync.Mutex
	now, top    int
	quarantined int
	order       []uint64
	canceled    map[uint64]bool
	expires     map[uint64]time.Time
}

func (e *executor) Preemption(d *delivery.Delivery) (canceled bool, expires time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.canceled[d.Sequence], e.expires[d.Sequence]
}

func (e *executor) Run(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
	e.enter(d)
	defer e.leave(d)
	return e.run(ctx, d, begin)
}

func (e *executor) enter(d *delivery.Delivery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now++
	e.top = max(e.top, e.now)
	e.order = append(e.order, d.Sequence)
	if d.Deliveries >= 4 {
		e.quarantined++
		if e.quarantined > 1 {
			e.stream.fault("%d jobs in quarantine ran at the same time", e.quarantined)
		}
	}
}

func (e *executor) leave(d *delivery.Delivery) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now--
	if d.Deliveries >= 4 {
		e.quarantined--
	}
}

func (e *executor) most() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.top
}

func (e *executor) current() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *executor) started() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.order)
}

func (e *executor) Taken(_ context.Context, _ *delivery.Delivery, out delivery.Outcome, existing []byte) delivery.Outcome {
	return e.taken(out, existing)
}

// settled is the outcome of a job that ended.
func settled(d *delivery.Delivery, status contract.Status) delivery.Outcome {
	id := strconv.FormatUint(d.Sequence, 10)
	out := delivery.Outcome{
		Action: delivery.Settle, Status: status, JobID: id, Started: true,
		Store: &delivery.Publication{Key: id, Body: []byte(string(status) + " " + id)},
		Reply: &delivery.Publication{Key: "_INBOX." + id, Body: []byte(status)},
	}
	if status != contract.Succeeded {
		out.Code = "code"
		out.DeadLetter = &delivery.DeadLetter{JobID: id, DerivedID: id, Reason: string(status), ResultID: id}
	}
	return out
}

// work starts, works for a time unless ctx ends, and ends with the status.
func work(took time.Duration, status contract.Status) func(context.Context, *delivery.Delivery, func() error) delivery.Outcome {
	return func(ctx context.Context, d *delivery.Delivery, begin func() error) delivery.Outcome {
		if begin() != nil {
			return delivery.Outcome{Action: delivery.Undecided}
		}
		select {
		case <-time.After(took):
			return settled(d, status)
		case <-ctx.Done():
			return delivery.Outcome{Action: delivery.Undecided, Started: true}
		}
	}
}

// results stores in memory, first writer wins.
type results struct {
	stream *stream

	mu     sync.Mutex
	stored map[string]string
	full   bool
	err    error
	lose   int // stores whose answer is lost
	slow   time.Duration
}

func newResults(s *stream) *results { return &results{stream: s, stored: map[string]string{}} }

func (r *results) Store(ctx context.Context, id string, body []byte) (report.StoreVerdict, error) {
	r.mu.Lock()
	slow := r.slow
	r.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, found := r.stored[id]; {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case r.err != nil:
		return 0, r.err
	case found:
		return report.Taken, nil
	case r.full:
		return report.Full, nil
	}
	r.stored[id] = string(body)
	if r.lose > 0 {
		r.lose--
		return 0, errDown
	}
	if sequence, err := strconv.ParseUint(id, 10, 64); err == nil {
		r.stream.note(sequence, "store")
	}
	return report.Stored, nil
}

func (r *results) StoredResult(ctx context.Context, id string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	body, found := r.stored[id]
	if !found {
		return nil, ctx.Err()
	}
	return []byte(body), ctx.Err()
}

func (r *results) HasResult(ctx context.Context, id string) (bool, error) {
	body, err := r.StoredResult(ctx, id)
	return body != nil, err
}

func (r *results) set(change func(*results)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *results) get(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored[id]
}

func (r *results) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.stored)
}

// outbox notes what leaves.
type outbox struct {
	stream *stream

	mu            sync.Mutex
	replyErr      error
	deadLetterErr error
	trials        int
}

func (o *outbox) Reply(subject string, _ []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.replyErr != nil {
		return o.replyErr
	}
	sequence, _ := strconv.ParseUint(subject[len("_INBOX."):], 10, 64)
	o.stream.note(sequence, "reply")
	return nil
}

func (o *outbox) PublishDeadLetter(_ context.Context, d *delivery.Delivery, _ *delivery.DeadLetter) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trials++
	if o.deadLetterErr != nil {
		return o.deadLetterErr
	}
	o.stream.note(d.Sequence, "dead letter")
	return nil
}

func (o *outbox) set(deadLetterErr error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deadLetterErr = deadLetterErr
}

func (o *outbox) tried() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trials
}

// prober answers as the test sets it.
type prober struct {
	mu     sync.Mutex
	err    error
	probes int
	hangs  bool
}

func (p *prober) Probe(ctx context.Context) error {
	p.mu.Lock()
	p.probes++
	err, hangs := p.err, p.hangs
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (p *prober) hang(hangs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangs = hangs
}

func (p *prober) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *prober) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes
}
