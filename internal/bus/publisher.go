package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// publishTimeout is how long one publish waits for its answer before it is sent again.
const publishTimeout = 5 * time.Second

// errNoAnswer: the answer to a publish did not come, so it is unknown whether it was stored.
var errNoAnswer = errors.New("no answer from JetStream")

// publisher sends messages and small questions to JetStream and matches the answers, all over one inbox subscription.
// Many goroutines use it concurrently; slots bounds how many of them wait for an answer.
type publisher struct {
	nc     *nats.Conn
	sub    *nats.Subscription
	prefix string // of the reply subjects, with the dot
	slots  chan struct{}
	free   sync.Pool // of *waiter

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]*waiter
}

// waiter is one publish on its way. answer holds at most one message; nil: the link was renewed.
type waiter struct {
	answer chan *nats.Msg
	timer  *time.Timer
}

func newPublisher(nc *nats.Conn, bound int) (*publisher, error) {
	p := &publisher{
		nc:      nc,
		prefix:  nc.NewInbox() + ".",
		slots:   make(chan struct{}, bound),
		waiting: make(map[uint64]*waiter, bound),
	}
	p.free.New = func() any {
		t := time.NewTimer(publishTimeout)
		t.Stop()
		return &waiter{answer: make(chan *nats.Msg, 1), timer: t}
	}
	sub, err := nc.Subscribe(p.prefix+"*", p.deliver)
	if err != nil {
		return nil, err
	}
	// Bounded by the slots, not by the library, which would drop answers.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	p.sub = sub
	return p, nil
}

func (p *publisher) close() {
	_ = p.sub.Unsubscribe() // fails only when the connection is closed already
}

// deliver hands an answer to its waiter.
func (p *publisher) deliver(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(p.prefix):], 36, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	w := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if w != nil {
		w.answer <- m
	}
}

// interrupt notifies all waiters that the link was renewed: the answer may have been lost with the old one.
func (p *publisher) interrupt() {
	p.mu.Lock()
	waiting := p.waiting
	p.waiting = make(map[uint64]*waiter, len(waiting))
	p.mu.Unlock()
	for _, w := range waiting {
		w.answer <- nil
	}
}

// Ack is the answer to a publish.
type Ack struct {
	Sequence  uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
	Error     *APIError `json:"error,omitempty"`
}

// send publishes once and waits for the answer: an *APIError if the server refused, ErrNoStream if no stream
// takes the subject, errNoAnswer if that is unknown.
func (p *publisher) send(ctx context.Context, msg *nats.Msg) (Ack, error) {
	answer, err := p.ask(ctx, msg)
	if err != nil {
		return Ack{}, err
	}
	return readAck(answer)
}

// ask publishes once and returns the answer: ErrNoStream if nothing listens to the subject, errNoAnswer if none came.
func (p *publisher) ask(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	sent, err := p.post(ctx, msg, nil)
	if err != nil {
		return nil, err
	}
	return sent.wait(ctx)
}

// Posted is a publish whose answer is still out. The owner waits for it: until then it takes a slot.
type Posted struct {
	p  *publisher
	w  *waiter
	id uint64
}

// post publishes once and does not wait for the answer. The message's payload may be used again immediately. settle: see Conn.Post.
func (p *publisher) post(ctx context.Context, msg *nats.Msg, settle func() error) (Posted, error) {
	if err := p.acquire(ctx, settle); err != nil {
		return Posted{}, err
	}
	w := p.free.Get().(*waiter)
	id := p.register(w)
	msg.Reply = p.prefix + strconv.FormatUint(id, 36)
	if err := p.nc.PublishMsg(msg); err != nil {
		p.forget(id, w)
		<-p.slots
		if errors.Is(err, nats.ErrMaxPayload) {
			err = errors.Join(ErrTooLarge, err)
		}
		return Posted{}, ClosedAs(err)
	}
	return Posted{p, w, id}, nil
}

// acquire takes a slot. If none is free, settle, unless it is nil, gives back those that the caller has before it waits for one.
func (p *publisher) acquire(ctx context.Context, settle func() error) error {
	if settle != nil {
		select {
		case p.slots <- struct{}{}:
			return nil
		default:
		}
		if err := settle(); err != nil {
			return err
		}
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wait returns nil once the stream has the message, and the errors of Conn.Publish.
func (s Posted) Wait(ctx context.Context) error {
	answer, err := s.wait(ctx)
	if err == nil {
		_, err = readAck(answer)
	}
	return err
}

// wait returns the answer; see ask.
func (s Posted) wait(ctx context.Context) (*nats.Msg, error) {
	defer func() { <-s.p.slots }()
	s.w.timer.Reset(publishTimeout)
	select {
	case m := <-s.w.answer:
		s.w.timer.Stop() // before another goroutine has the waiter
		s.p.free.Put(s.w)
		return answered(m)
	case <-s.w.timer.C:
		s.p.forget(s.id, s.w)
		return nil, errNoAnswer
	case <-ctx.Done():
		s.w.timer.Stop()
		s.p.forget(s.id, s.w)
		return nil, ctx.Err()
	}
}

func (p *publisher) register(w *waiter) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	p.waiting[p.next] = w
	return p.next
}

// forget gives the waiter back unless its answer is on the way at this moment.
func (p *publisher) forget(id uint64, w *waiter) {
	p.mu.Lock()
	_, ours := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if ours {
		p.free.Put(w)
	}
}

// answered distinguishes an answer from the notice that there will be none.
func answered(m *nats.Msg) (*nats.Msg, error) {
	if m == nil {
		return nil, errNoAnswer
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return nil, ErrNoStream
	}
	return m, nil
}

func readAck(m *nats.Msg) (Ack, error) {
	if sequence, plain := plainAck(m.Data); plain {
		return Ack{Sequence: sequence}, nil
	}
	var ack Ack
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return Ack{}, fmt.Errorf("answer to a publish: %w", err)
	}
	if ack.Error != nil {
		return Ack{}, ack.Error
	}
	return ack, nil
}

// plainAck reads the answer that nearly every publish gets, {"stream":"<name>","seq":<n>}, in which nothing but the
// sequence is news. Everything else is for the decoder.
func plainAck(answer []byte) (sequence uint64, plain bool) {
	rest, ok := bytes.CutPrefix(answer, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	_, rest, ok = bytes.Cut(rest, []byte(`","seq":`))
	if !ok || len(rest) < 2 || rest[0] == '0' {
		return 0, false
	}
	last := len(rest) - 1
	if rest[last] != '}' || last > 19 { // at most 19 digits: no overflow
		return 0, false
	}
	for _, digit := range rest[:last] {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		sequence = sequence*10 + uint64(digit-'0')
	}
	return sequence, true
}

// perSubject reports whether the stream is full for this one subject only.
func (e *APIError) perSubject() bool {
	return e.ErrCode == CodeStoreFailed && strings.Contains(e.Description, perSubjectLimitFragment)
}
