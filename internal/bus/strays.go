package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// A stray is a message that is still in the queue although its consumer has left it behind: the consumer's
// acknowledgement floor is above it, so it is never delivered again. A server that stops at the wrong moment keeps
// a message whose acknowledgement it has noted, and a kind that is moved to another lane by hand leaves its waiting
// jobs behind. Each would stay for ever: as a job that nobody runs, or as the oldest message of the queue. (With
// replicas the server removes such messages itself after some seconds, delivered or not: a lane's kinds must never
// be changed by hand.)
//
// So each lane looks for strays of its kinds and takes them up as redelivered messages: what was done already is
// found in the stored results, and the acknowledgement then removes the message.
const (
	maxStrays   = 64              // taken up at one look
	strayPause  = 5 * time.Minute // before the same stray is taken up again
	strayNumber = 2               // its delivery number: not the first
)

// strays are what one look has found.
type strays struct {
	messages []*storedMessage
	err      error
}

// lookForStrays begins a look if one is due.
func (p *pull) lookForStrays(ctx context.Context, now time.Time) {
	if p.looking != nil || now.Before(p.nextLook) {
		return
	}
	p.nextLook = now.Add(p.intake.times.sweep)
	answer := make(chan strays, 1)
	p.looking = answer
	go func() { // ends with the context at the latest; stop waits for its answer
		messages, err := p.intake.findStrays(ctx)
		answer <- strays{messages, err}
	}()
}

// findStrays lists messages of the lane at or below the consumer's acknowledgement floor, oldest first.
func (i *Intake) findStrays(ctx context.Context) ([]*storedMessage, error) {
	consumer, err := i.conn.consumerInfo(ctx, i.stream, i.name)
	if err != nil {
		return nil, err
	}
	stream, err := i.conn.streamInfo(ctx, i.stream)
	if err != nil {
		return nil, err
	}
	floor := consumer.AckFloor.Stream
	if stream.State.Msgs == 0 || stream.State.FirstSeq > floor {
		return nil, nil // as nearly always
	}
	var found []*storedMessage
	for _, filter := range filters(&consumer.Config) {
		for next := stream.State.FirstSeq; len(found) < maxStrays; {
			m, err := i.conn.getMessage(ctx, i.stream, getRequest{Sequence: next, NextFor: filter})
			if err != nil {
				return nil, err
			}
			if m == nil || m.Sequence > floor {
				break
			}
			found = append(found, m)
			next = m.Sequence + 1
		}
	}
	return found, nil
}

// takeStrays takes up what the look before has seen too: an acknowledged message is removed a moment later.
func (p *pull) takeStrays(found strays) {
	p.looking = nil
	if found.err != nil {
		p.intake.log.Debug("could not look for messages that were left behind", zap.Error(found.err))
		return
	}
	now := time.Now()
	seen := make(map[uint64]time.Time, len(found.messages))
	for _, m := range found.messages {
		due, known := p.seen[m.Sequence]
		switch {
		case !known:
			due = now // at the next look
		case now.After(due) && p.credit.take():
			due = now.Add(strayPause)
			p.deliverStray(m)
		}
		seen[m.Sequence] = due
	}
	p.seen = seen
}

func (p *pull) deliverStray(m *storedMessage) {
	stray := &Message{
		conn: p.conn,
		msg:  &nats.Msg{Subject: m.Subject, Data: m.Data},
		ack:  ackInfo{deliveries: strayNumber, sequence: m.Sequence, timestamp: m.Time.UTC()},
	}
	stray.msg.Reply = fmt.Sprintf("%s%s.%s.%d.%d.0.%d.0", ackPrefix, p.intake.stream, p.intake.name,
		strayNumber, m.Sequence, m.Time.UnixNano())
	if len(m.Headers) > 0 {
		if headers, err := nats.DecodeHeadersMsg(m.Headers); err == nil {
			stray.msg.Header = headers
		}
	}
	stray.database, stray.kind, _ = p.conn.subjects.splitJob(m.Subject)
	p.intake.log.Warn("a message was left behind in the queue and would not be delivered any more: taking it up again",
		zap.Uint64("sequence", m.Sequence))
	p.intake.count(func(s *IntakeState) { s.Handled++; s.Strays++ })
	p.handle(stray)
}
