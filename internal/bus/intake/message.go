package intake

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// Message is one delivery of a job. Exactly one of Ack, AckConfirmed and Nak should end it; that is not enforced,
// because the server does not fence acknowledgements either: they name the message, not the delivery.
type Message struct {
	conn   *bus.Conn
	msg    *nats.Msg
	of     contract.JobSubject
	ack    ackInfo
	first  bool
	orphan *orphanLease // nil: the server keeps the lease

	wanted bool // by TakeUp
}

// Subject is where the job was published.
func (m *Message) Subject() string { return m.msg.Subject }

// Headers are the publisher's headers. They must not be changed.
func (m *Message) Headers() map[string][]string { return m.msg.Header }

// Data is the job's body. It must not be changed.
func (m *Message) Data() []byte { return m.msg.Data }

// Database is the subject's database.
func (m *Message) Database() string { return m.of.Database }

// Queue is the queue of the subject; empty: none.
func (m *Message) Queue() string { return m.of.Queue }

// Kind is the subject's kind.
func (m *Message) Kind() string { return m.of.Kind }

// Name is what the subject names behind the kind; mostly empty.
func (m *Message) Name() string { return m.of.Name }

// Sequence is the message's number in its stream, the same in every delivery.
func (m *Message) Sequence() uint64 { return m.ack.sequence }

// Timestamp is when the stream took the message, the same in every delivery, in UTC with nanoseconds.
func (m *Message) Timestamp() time.Time { return m.ack.timestamp }

// Deliveries is the number of this delivery, counted from one by the consumer.
func (m *Message) Deliveries() uint64 { return m.ack.deliveries }

// First reports whether this is, as far as can be known, the first delivery of the message to anybody: number one,
// stored after the consumer was created, and nothing looks as if the consumer had lost its count. A false answer
// costs a result lookup; a true one is a hint, no proof.
func (m *Message) First() bool { return m.first }

// Wanted reports whether the message was asked for by TakeUp: it takes no credit.
func (m *Message) Wanted() bool { return m.wanted }

// Ack ends the message without waiting for the server: if it gets lost the message comes again.
func (m *Message) Ack() error {
	return m.publish(nil)
}

// AckConfirmed ends the message and returns once the server has said that it did.
func (m *Message) AckConfirmed(ctx context.Context) error {
	return m.request(ctx, "+ACK")
}

// Nak hands the message back: it is delivered again, to any runner, immediately or after the delay. It is not waited
// for. After a lost lease it must not be called: it would affect another runner's delivery.
func (m *Message) Nak(delay time.Duration) error {
	if delay <= 0 {
		return m.publish([]byte("-NAK"))
	}
	return m.publish([]byte(`-NAK {"delay":` + strconv.FormatInt(int64(delay), 10) + `}`))
}

// InProgress asks the server to count AckWait again from now. nil means that the consumer's leader has done so for
// the message if it is in flight; an error means that this is unknown. It cannot determine whether we are still the one
// who holds it: if our lease had run out before, it prolonged the other runner's.
func (m *Message) InProgress(ctx context.Context) error {
	if m.orphan != nil {
		return m.orphan.renew(ctx)
	}
	return m.request(ctx, "+WPI")
}

func (m *Message) publish(body []byte) error {
	if err := m.conn.NATS().Publish(m.msg.Reply, body); err != nil {
		return fmt.Errorf("settle message %d: %w", m.ack.sequence, bus.ClosedAs(err))
	}
	return nil
}

func (m *Message) request(ctx context.Context, verb string) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bus.APITimeout)
		defer cancel()
	}
	answer, err := m.conn.NATS().RequestWithContext(ctx, m.msg.Reply, []byte(verb))
	if err != nil {
		return fmt.Errorf("%s of message %d: %w", verb, m.ack.sequence, bus.ClosedAs(err))
	}
	if len(answer.Data) > 0 {
		return fmt.Errorf("%s of message %d: unexpected answer", verb, m.ack.sequence)
	}
	return nil
}
