package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// An orphan is a message that is still in the queue although its consumer has left it behind: the consumer's
// acknowledgement floor is above it, so it is never delivered again. A server that stops at the wrong moment keeps
// a message whose acknowledgement it has noted, and a kind that is moved to another lane by hand leaves its waiting
// jobs behind. Each would stay indefinitely: as a job that never runs, or as the oldest message of the queue. (With
// replicas the server removes such messages itself after some seconds, delivered or not: a lane's kinds must never
// be changed by hand.)
//
// So each lane scans for orphans of its kinds and takes them up as redelivered messages: what was done already is
// found in the stored results, and the acknowledgement then removes the message. The server counts no deliveries of them and
// keeps no leases, so that the runners do, in the bucket of requests to cancel: a job that kills its runners is given up as
// any other, and one that takes long is not taken up by others meanwhile.
const (
	maxOrphans     = 64              // taken up by one scan
	orphanPause    = 5 * time.Minute // before the same orphan is taken up again
	orphanDelivery = 2               // the delivery number of its first time: not the first
)

// orphanScan are what one scan has found, or the ones of it that are taken up.
type orphanScan struct {
	messages []*bus.StoredMessage
	now      time.Time      // the server's, before the scan
	leases   []*orphanLease // of those that are taken up, nil: another runner has it, or it could not be counted; none: of a scan
	wanted   bool           // it is the answer to a request for one message, which takes no credit
	err      error
}

// scanForOrphans starts a scan if one is due.
func (p *pull) scanForOrphans(ctx context.Context, now time.Time) {
	if p.scanning != nil || now.Before(p.nextScan) {
		return
	}
	p.nextScan = now.Add(p.intake.times.sweep)
	answer := make(chan orphanScan, 1)
	p.scanning = answer
	go func() { // ends with the context at the latest; stop waits for its answer
		messages, now, err := p.intake.findOrphans(ctx)
		answer <- orphanScan{messages: messages, now: now, err: err}
	}()
}

// findOrphans lists messages of the lane at or below the consumer's acknowledgement floor, oldest first, and returns the
// server's time.
func (i *Intake) findOrphans(ctx context.Context) ([]*bus.StoredMessage, time.Time, error) {
	consumer, err := bus.ConsumerInfo(ctx, i.conn, i.stream, i.name)
	if err != nil {
		return nil, time.Time{}, err
	}
	stream, err := bus.StreamInfo(ctx, i.conn, i.stream)
	if err != nil {
		return nil, time.Time{}, err
	}
	floor := consumer.AckFloor.Stream
	if stream.State.Msgs == 0 || stream.State.FirstSeq > floor {
		return nil, stream.TimeStamp, nil // as nearly always
	}
	var found []*bus.StoredMessage
	for _, filter := range bus.Filters(&consumer.Config) {
		for next := stream.State.FirstSeq; len(found) < maxOrphans; {
			m, err := bus.GetMessage(ctx, i.conn, i.stream, bus.GetRequest{Sequence: next, NextFor: filter})
			if err != nil {
				return nil, time.Time{}, err
			}
			if m == nil || m.Sequence > floor {
				break
			}
			found = append(found, m)
			next = m.Sequence + 1
		}
	}
	return found, stream.TimeStamp, nil
}

// redeliverOrphans takes over the answer of a scan, or of the counting afterwards.
func (p *pull) redeliverOrphans(ctx context.Context, found orphanScan) {
	p.scanning = nil
	switch {
	case found.wanted:
		if found.err != nil {
			p.intake.log.Warn("message before others not redelivered", zap.Error(found.err))
		}
		if len(found.messages) > 0 {
			p.redeliverOrphan(found.messages[0], found.leases[0], true)
		}
	case found.leases != nil:
		if found.err != nil {
			p.intake.log.Warn("orphan message not redelivered; its deliveries cannot be counted", zap.Error(found.err))
		}
		for i, m := range found.messages {
			if found.leases[i] == nil {
				p.credit.add(1, time.Now())
				p.seen[m.Sequence] = time.Now() // at the next scan
				continue
			}
			p.redeliverOrphan(m, found.leases[i], false)
		}
	case found.err != nil:
		p.intake.log.Debug("scan for orphan messages failed", zap.Error(found.err))
	default:
		p.leaseOrphans(ctx, p.dueOrphans(found.messages), found.now)
	}
}

// dueOrphans are those that the previous scan has seen, too, as far as there are slots for them: an acknowledged message is
// removed a moment later.
func (p *pull) dueOrphans(messages []*bus.StoredMessage) (due []*bus.StoredMessage) {
	now := time.Now()
	seen := make(map[uint64]time.Time, len(messages))
	for _, m := range messages {
		from, known := p.seen[m.Sequence]
		switch {
		case !known:
			from = now // at the next scan
		case now.After(from) && p.credit.take():
			from = now.Add(orphanPause)
			due = append(due, m)
		}
		seen[m.Sequence] = from
	}
	p.seen = seen
	return due
}

// leaseOrphans counts one more delivery of each. Nothing is delivered before that is durable.
func (p *pull) leaseOrphans(ctx context.Context, due []*bus.StoredMessage, now time.Time) {
	if len(due) == 0 {
		return
	}
	answer := make(chan orphanScan, 1)
	p.scanning = answer
	go func() { // ends with the context at the latest; stop waits for its answer
		taken := orphanScan{messages: due, leases: make([]*orphanLease, len(due))}
		for i, m := range due {
			var err error
			taken.leases[i], err = p.intake.leaseOrphan(ctx, m, now)
			taken.err = errors.Join(taken.err, err)
		}
		answer <- taken
	}()
}

// takeUp takes up one message, wherever the consumer stands and whether or not there is a free slot.
func takeUp(ctx context.Context, p *pull, sequence uint64) {
	if p.scanning != nil { // it is asked for again
		return
	}
	answer := make(chan orphanScan, 1)
	p.scanning = answer
	go func() { // ends with the context at the latest; stop waits for its answer
		m, lease, err := p.intake.leaseMessage(ctx, sequence)
		found := orphanScan{wanted: true, err: err}
		if lease != nil {
			found.messages, found.leases = []*bus.StoredMessage{m}, []*orphanLease{lease}
		}
		answer <- found
	}()
}

// leaseMessage reads a message and counts one more delivery of it; no lease if it is gone, or another runner has it.
func (i *Intake) leaseMessage(ctx context.Context, sequence uint64) (*bus.StoredMessage, *orphanLease, error) {
	stream, err := bus.StreamInfo(ctx, i.conn, i.stream)
	if err != nil {
		return nil, nil, err
	}
	m, err := bus.GetMessage(ctx, i.conn, i.stream, bus.GetRequest{Sequence: sequence})
	if m == nil || err != nil {
		return nil, nil, err
	}
	lease, err := i.leaseOrphan(ctx, m, stream.TimeStamp)
	return m, lease, err
}

func (p *pull) redeliverOrphan(m *bus.StoredMessage, lease *orphanLease, wanted bool) {
	number := lease.count.Deliveries
	orphan := &Message{
		conn: p.conn, orphan: lease, wanted: wanted,
		msg: &nats.Msg{Subject: m.Subject, Data: m.Data},
		ack: ackInfo{deliveries: number, sequence: m.Sequence, timestamp: m.Time.UTC()},
	}
	orphan.msg.Reply = fmt.Sprintf("%s%s.%s.%d.%d.0.%d.0", ackPrefix, p.intake.stream, p.intake.name,
		number, m.Sequence, m.Time.UnixNano())
	if len(m.Headers) > 0 {
		if headers, err := nats.DecodeHeadersMsg(m.Headers); err == nil {
			orphan.msg.Header = headers
		}
	}
	orphan.of, _ = p.conn.Subjects().SplitJob(m.Subject)
	p.intake.log.Warn("redelivering orphan message",
		zap.Uint64("sequence", m.Sequence), zap.Uint64("deliveries", number))
	p.intake.count(func(s *State) { s.Handled++; s.Orphans++ })
	p.handle(orphan)
}
