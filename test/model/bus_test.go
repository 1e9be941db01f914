package model

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/report"
)

// message is a message of the jobs stream.
type message struct {
	request    request
	sequence   uint64
	stored     time.Time
	deliveries uint64
	ever       uint64     // deliveries, whatever their numbers said
	doubtful   bool       // it is older than its consumer
	holder     *delivered // the one with the lease; nil: none
	gone       bool
}

// delivered is one delivery of a message.
type delivered struct {
	m     *message
	r     *runner
	until time.Time // of the lease, as the server has it
}

func (m *message) String() string { return fmt.Sprintf("#%d", m.sequence) }

func (m *message) derived() string { return contract.DerivedID(m.sequence, m.stored) }

// id is where the answer of the job goes.
func (m *message) id() string {
	if m.request.id == "" {
		return m.derived()
	}
	return m.request.id
}

func (m *message) ready() bool {
	return !m.gone && (m.holder == nil || !time.Now().Before(m.holder.until))
}

// publish adds a message. The world's mutex is held.
func (w *world) publish(q request) {
	m := &message{request: q, sequence: uint64(len(w.messages) + 1), stored: w.stamp()}
	w.messages = append(w.messages, m)
}

// deliver makes a delivery of a message; number 0 counts on. It returns what the runner gets. The world's mutex is held.
func (w *world) deliver(m *message, r *runner, number uint64) arrival {
	if number == 0 {
		m.deliveries++
		number = m.deliveries
	}
	m.ever++
	r.free--
	d := &delivered{m: m, r: r, until: time.Now().Add(ackWait)}
	m.holder = d
	return arrival{message: d, delivery: delivery.Delivery{
		Message: jobs.Message{
			Database: "shop", Kind: m.request.kind, Sequence: m.sequence, Timestamp: m.stored, Body: []byte(m.request.body()),
		},
		Deliveries: number, MaybeRedelivered: number > 1 || m.doubtful,
	}}
}

// Ack is on its way when it returns.
func (d *delivered) Ack() error {
	if d.r.heard() {
		defer d.r.w.mu.Unlock()
		d.r.w.checkAck(d.m)
		d.send("ack", d.ack)
	}
	return nil
}

// Nak is on its way when it returns. The delay is not kept: another runner may have the message at any time.
func (d *delivered) Nak(time.Duration) error {
	if d.r.heard() {
		defer d.r.w.mu.Unlock()
		if !time.Now().Before(d.until) {
			d.r.w.problem("%v: requeued by %s after its lease was lost", d.m, d.r.name)
		}
		d.send("hand-back", func() { d.m.holder = nil })
	}
	return nil
}

func (d *delivered) send(verb string, do func()) {
	name := fmt.Sprintf("%s of %v by %s", verb, d.m, d.r.name)
	d.r.w.leave(&leftover{name: name, sure: true, options: func() []option {
		return []option{{"arrives", do}, {"is lost", func() {}}}
	}})
}

func (d *delivered) ack() { d.m.gone = true }

// AckConfirmed waits for the server's word.
func (d *delivered) AckConfirmed(ctx context.Context) error {
	if d.r.heard() {
		d.r.w.checkAck(d.m)
		d.r.w.mu.Unlock()
	}
	var answer error
	err := d.r.await(ctx, fmt.Sprintf("confirmed ack of %v", d.m), nil, func() []option {
		return []option{
			{"confirmed", func() { d.ack(); answer = nil }},
			{"arrives without an answer", func() { d.ack(); answer = errNoAnswer }},
			{"is lost", func() { answer = errNoAnswer }},
		}
	})
	return either(err, answer)
}

// InProgress asks for a longer lease.
func (d *delivered) InProgress(ctx context.Context) error {
	var answer error
	err := d.r.await(ctx, fmt.Sprintf("extension of %v", d.m), nil, func() []option {
		return []option{
			{"confirmed", func() { d.until = time.Now().Add(ackWait); answer = nil }},
			{"is lost", func() { answer = errNoAnswer }},
		}
	})
	return either(err, answer)
}

func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Store writes a result: the first writer wins.
func (r *runner) Store(ctx context.Context, id string, body []byte) (report.StoreVerdict, error) {
	body = bytes.Clone(body)
	var verdict report.StoreVerdict
	var answer error
	say := func(v report.StoreVerdict, err error) func() { return func() { verdict, answer = v, err } }
	late := &leftover{name: r.name + "'s result of " + id, options: func() []option {
		return []option{{"arrives", func() { r.w.store(id, body) }}, {"is lost", func() {}}}
	}}
	err := r.await(ctx, "store "+id, late, func() []option {
		missed := option{"no answer", func() { r.w.leave(late); answer = errNoAnswer }}
		if r.w.results[id] != nil {
			return []option{{"taken", say(report.Taken, nil)}, missed}
		}
		return []option{
			{"stored", func() { r.w.store(id, body); say(report.Stored, nil)() }},
			missed,
			{"full", say(report.Full, nil)},
		}
	})
	return verdict, either(err, answer)
}

// store is the results stream: a subject takes one message. The world's mutex is held.
func (w *world) store(id string, body []byte) {
	if w.results[id] == nil {
		w.results[id] = body
		w.published(id, body)
	}
}

// StoredResult reads a result from the leader.
func (r *runner) StoredResult(ctx context.Context, id string) ([]byte, error) {
	var found []byte
	var answer error
	err := r.await(ctx, "read "+id, nil, func() []option {
		return []option{
			{"answered", func() { found, answer = bytes.Clone(r.w.results[id]), nil }},
			{"no answer", func() { answer = errNoAnswer }},
		}
	})
	return found, either(err, answer)
}

// HasResult reads what may lag behind.
func (r *runner) HasResult(ctx context.Context, id string) (bool, error) {
	var found bool
	var answer error
	err := r.await(ctx, "direct get of "+id, nil, func() []option {
		options := []option{
			{"answered", func() { found, answer = r.w.results[id] != nil, nil }},
			{"no answer", func() { answer = errNoAnswer }},
		}
		if r.w.results[id] != nil {
			options = append(options, option{"lags behind", func() { found, answer = false, nil }})
		}
		return options
	})
	return found, either(err, answer)
}

// Reply publishes to the publisher's own subject.
func (r *runner) Reply(_ string, body []byte) error {
	if r.heard() {
		defer r.w.mu.Unlock()
		r.w.checkReply(bytes.Clone(body))
	}
	return nil
}

// PublishDeadLetter stores a dead letter: one a message.
func (r *runner) PublishDeadLetter(ctx context.Context, d *delivery.Delivery, deadLetter *delivery.DeadLetter) error {
	w, reason := r.w, deadLetter.Reason
	w.mu.Lock()
	m := w.messages[d.Sequence-1]
	w.mu.Unlock()
	var answer error
	err := r.await(ctx, fmt.Sprintf("dead letter of %v", m), nil, func() []option {
		stored := func(err error) func() { return func() { w.storeDeadLetter(m, reason); answer = err } }
		options := []option{{"stored", stored(nil)}, {"stored without an answer", stored(errNoAnswer)}}
		if w.deadLettersRefused < 3 { // more of them, and a dead letter is given up
			options = append(options, option{"no answer", func() { w.deadLettersRefused++; answer = errNoAnswer }})
		}
		return options
	})
	return either(err, answer)
}
