package intake

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// inboxSize holds everything that can be under way for one inbox: the messages asked for and the status messages
// of the requests.
const inboxSize = 2 * maxOutstanding

// pull is one run of an intake. One goroutine owns all of it.
type pull struct {
	intake  *Intake
	conn    *bus.Conn
	credits <-chan int
	handle  func(*Message)

	credit     credit
	epoch      time.Time // what the account's seconds count from
	inbox      *inbox    // nil while recovering
	draining   *inbox    // the one before, until nothing can come through it any more
	drainUntil time.Time
	inspected  chan inspection // the answer of the inspection under way; nil if there is none
	linger     *time.Timer     // runs while freed slots wait for company
	lingering  bool
	alive      time.Time // the last sign of the consumer
	renewals   uint64    // of the link, when the inbox was made
	failures   int       // recoveries since the last message
	stalls     stallDetector

	scanning chan orphanScan      // the answer of the scan under way; nil if there is none
	nextScan time.Time            // for orphans
	seen     map[uint64]time.Time // orphans of the last scan, and from when on they may be taken up

	created     time.Time // of the consumer
	certain     time.Time // what was stored before is in doubt: the server may have lost its counts then
	interrupted bool      // there was a disturbance since the consumer was read
	doubt       bool      // until created is read again
	consumerSeq uint64    // of the last delivery seen: it only grows unless the consumer was recreated
	topSequence uint64    // the highest sequence whose first delivery we saw: first deliveries come in order
}

// inspection is what was found out about the consumer.
type inspection struct {
	info *jetstream.ConsumerInfo
	err  error // only when the context has ended
}

// inbox is one subscription for the answers to pull requests. A new one is made after each disturbance, so that
// requests of before, which the server may or may not still know, lose the server's interest.
type inbox struct {
	sub     *nats.Subscription
	arrived chan *nats.Msg
	closed  chan struct{} // closed when nothing comes any more
	subject string        // of the replies, with the dot
	request uint64
}

func newPull(i *Intake, credits <-chan int, handle func(*Message)) *pull {
	p := &pull{
		intake: i, conn: i.conn, credits: credits, handle: handle,
		linger:  time.NewTimer(time.Hour),
		created: i.State().Created, epoch: time.Now(), nextScan: time.Now().Add(i.times.sweep),
	}
	p.linger.Stop()
	p.credit.baseSlots = i.baseSlots
	p.stalls = newStallDetector(i.AckWait(), i.conn.Now())
	return p
}

func (p *pull) run(ctx context.Context) error {
	link, unwatch := p.conn.WatchLink()
	defer unwatch()
	defer p.linger.Stop()
	tick := time.NewTicker(min(p.intake.times.heartbeat/3, max(p.intake.AckWait()/turnPart, time.Millisecond)))
	defer tick.Stop()
	p.open(ctx)
	for ctx.Err() == nil { // with much to do the select alone would see the end late
		select {
		case n, open := <-p.credits:
			p.receiveCredits(n, open)
		case m := <-p.inbox.messages():
			p.receive(ctx, m)
		case m := <-p.draining.messages():
			p.receive(ctx, m)
		case <-p.draining.end():
			p.drained(ctx)
		case found := <-p.inspected:
			p.resume(ctx, found)
		case found := <-p.scanning:
			p.redeliverOrphans(ctx, found)
		case sequence := <-p.intake.wanted:
			takeUp(ctx, p, sequence)
		case <-link:
			// The server that we are connected to now knows nothing of the requests of an old link, or only half.
			renewals, connected := p.conn.Link()
			switch {
			case p.inbox == nil:
			case !connected:
				p.beginRecovery(ctx, "the connection to NATS is lost")
			case renewals != p.renewals:
				p.beginRecovery(ctx, "the connection to NATS was renewed")
			}
		case <-p.linger.C:
			p.lingering = false
			n, _ := p.credit.want(time.Now())
			p.request(ctx, n)
		case <-tick.C:
			now := time.Now() // the tick may have waited
			p.stalls.observe(p.conn.Now())
			p.tick(ctx, now)
		case <-ctx.Done():
			continue
		}
		p.ask(ctx)
	}
	return p.stop(ctx)
}

// messages of a missing inbox never come.
func (b *inbox) messages() <-chan *nats.Msg {
	if b == nil {
		return nil
	}
	return b.arrived
}

// end of a missing inbox never comes.
func (b *inbox) end() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.closed
}

func (p *pull) receiveCredits(n int, open bool) {
	if !open {
		p.credits = nil
		return
	}
	now := time.Now()
	p.credit.add(n, now)
	for { // what else is there: the more slots at the same time, the fewer requests
		select {
		case n, open := <-p.credits:
			if !open {
				p.credits = nil
				return
			}
			p.credit.add(n, now)
		default:
			return
		}
	}
}

// receive takes everything that has arrived at the moment, so that a burst costs one turn of the loop.
func (p *pull) receive(ctx context.Context, m *nats.Msg) {
	p.dispatch(ctx, m)
	for range len(p.inbox.messages()) {
		if ctx.Err() != nil {
			return
		}
		select {
		case m := <-p.inbox.messages():
			p.dispatch(ctx, m)
		default: // a status message has ended the inbox
			return
		}
	}
}

// dispatch separates jobs from status messages. Nothing but the reply subject decides: a job may carry any header.
func (p *pull) dispatch(ctx context.Context, m *nats.Msg) {
	p.alive = time.Now()
	now := p.conn.Now()
	p.stalls.observe(now)
	info, isJob := parseAck(m.Reply)
	if !isJob {
		if m.Reply == "" {
			p.status(ctx, m)
		}
		return
	}
	message := &Message{conn: p.conn, msg: m, ack: info}
	var ok bool
	message.of, ok = p.conn.Subjects().SplitJob(m.Subject)
	p.failures = 0
	first := p.isFirst(info)
	if p.doubt {
		p.inspect(ctx)
	}
	if !p.credit.take() {
		p.handBack(message, 0)
		return
	}
	if p.stalls.stale(now) {
		p.credit.add(1, p.alive)
		p.leaveToExpire(message)
		return
	}
	if !ok { // no subject of ours: the consumer was changed by hand
		p.credit.add(1, p.alive)
		p.handBack(message, strangerDelay)
		return
	}
	message.first = first
	p.intake.count(func(s *State) { s.Handled++; s.Outstanding = p.credit.outstanding })
	p.handle(message)
}

// isFirst decides Message.First and notices a consumer that counts from the beginning.
func (p *pull) isFirst(info ackInfo) bool {
	if info.consumerSeq <= p.consumerSeq {
		p.doubt = true
	}
	p.consumerSeq = info.consumerSeq
	if info.deliveries != 1 {
		return false
	}
	repeated := info.sequence <= p.topSequence
	p.topSequence = max(p.topSequence, info.sequence)
	return !p.doubt && !p.interrupted && !repeated && info.timestamp.After(p.created) && info.timestamp.After(p.certain)
}

// strangerDelay keeps a message that is no job from coming back all the time.
const strangerDelay = time.Minute

// leaveToExpire leaves a message alone that may be another runner's by now: its lease runs out, if that has not happened.
func (p *pull) leaveToExpire(m *Message) {
	p.intake.count(func(s *State) { s.LeftToExpire++ })
	p.intake.log.Warn("process stalled; leaving message to expire",
		zap.Uint64("sequence", m.Sequence()))
}

// handBack requeues messages that do not start here.
func (p *pull) handBack(m *Message, delay time.Duration) {
	if p.stalls.stale(p.conn.Now()) {
		p.leaveToExpire(m)
		return
	}
	p.intake.count(func(s *State) { s.Requeued++ })
	if err := m.Nak(delay); err != nil {
		p.intake.log.Debug("NAK failed; redelivery after ack_wait", zap.Uint64("sequence", m.Sequence()), zap.Error(err))
	}
}

// status reads the server's words about a request.
func (p *pull) status(ctx context.Context, m *nats.Msg) {
	code, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch code {
	case "100": // a heartbeat
		p.failures = 0
		return
	case "":
		return
	}
	pending, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	counted := err == nil
	if counted {
		p.credit.writeOff(pending)
	}
	ended := code == "408" || code == "404" || code == "409" && text == "Batch Completed"
	if ended && counted {
		return
	}
	if code == "503" {
		text = "no consumer answers"
	}
	p.beginRecovery(ctx, fmt.Sprintf("%s (%s)", text, code))
}

// ask sends a request if enough slots are free, or lets them wait for more.
func (p *pull) ask(ctx context.Context) {
	if p.inbox == nil {
		return
	}
	n, wait := p.credit.want(time.Now())
	switch {
	case n == 0:
		p.stopLingering()
	case !wait:
		p.stopLingering()
		p.request(ctx, n)
	case !p.lingering:
		p.lingering = true
		p.linger.Reset(linger)
	}
}

func (p *pull) stopLingering() {
	if p.lingering {
		p.lingering = false
		p.linger.Stop()
	}
}

func (p *pull) request(ctx context.Context, n int) {
	if p.inbox == nil || n <= 0 || p.stalls.stale(p.conn.Now()) { // what came now would be left alone, too
		return
	}
	if p.credit.outstanding == 0 {
		p.alive = time.Now() // silence counts from the first question
	}
	t := p.intake.times
	expires := t.expires
	if p.credit.usesBurst(n) {
		expires = min(expires, t.brief)
	}
	bounds := p.intake.limits()
	if bounds.expires > 0 {
		expires = min(expires, bounds.expires)
	}
	for bounds.batch > 0 && n > bounds.batch && p.inbox != nil { // each request is for as many as the consumer allows
		p.send(ctx, bounds.batch, expires)
		n -= bounds.batch
	}
	p.send(ctx, n, expires)
}

// send sends one request.
func (p *pull) send(ctx context.Context, n int, expires time.Duration) {
	if p.inbox == nil {
		return
	}
	t := p.intake.times
	body := make([]byte, 0, 96)
	body = append(body, `{"batch":`...)
	body = strconv.AppendInt(body, int64(n), 10)
	body = append(body, `,"expires":`...)
	body = strconv.AppendInt(body, int64(expires), 10)
	body = append(body, `,"idle_heartbeat":`...)
	body = strconv.AppendInt(body, int64(min(t.heartbeat, expires/2)), 10)
	body = append(body, '}')
	p.inbox.request++
	reply := p.inbox.subject + strconv.FormatUint(p.inbox.request, 36)
	subject := p.conn.APIPrefix() + "CONSUMER.MSG.NEXT." + p.intake.stream + "." + p.intake.name
	if err := p.conn.NATS().PublishRequest(subject, reply, body); err != nil {
		p.beginRecovery(ctx, bus.ErrorText(err))
		return
	}
	p.credit.ask(n, second(p.epoch, time.Now().Add(expires+t.silence)))
}

// second returns the second of a point in time in the account. A step of the system's clock makes no difference to it.
func second(epoch, at time.Time) int64 { return int64(at.Sub(epoch) / time.Second) }
