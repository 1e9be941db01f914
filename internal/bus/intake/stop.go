package intake

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"dbrunner/internal/report"
)

// leftovers are the messages that arrived after the end. They are requeued only when no request of ours is
// open any more: before, the server would give them to us again.
type leftovers []*nats.Msg

// stop ends the run: no interest of ours is left in the server, and what has arrived goes back to the queue. If the lane is
// paused, it is handled instead: a requeue would count as a delivery.
func (p *pull) stop(ctx context.Context) error {
	limit := time.NewTimer(p.intake.times.drain)
	defer limit.Stop()
	p.stalls.observe(p.conn.Now())
	paused := errors.Is(context.Cause(ctx), report.ErrPaused)
	settling := p.intake.times.drain
	if paused {
		settling = p.intake.times.pause
	}
	left := p.settle(settling)
	last := p.draining
	if p.inbox != nil {
		last = p.inbox
		last.finish(p.conn.NATS().IsConnected())
	}
	left = last.empty(left, limit.C)
	for _, m := range left {
		switch info, ok := parseAck(m.Reply); {
		case !ok:
		case paused:
			p.dispatch(ctx, m)
		default:
			p.handBack(&Message{conn: p.conn, msg: m, ack: info}, 0)
		}
	}
	if p.inspected != nil {
		<-p.inspected
	}
	if p.scanning != nil {
		<-p.scanning
	}
	if p.conn.NATS().IsConnected() { // return when the server has the hand-backs, or soon
		if err := p.conn.NATS().FlushTimeout(p.intake.times.drain); err != nil {
			p.intake.log.Debug("NAKs not flushed", zap.Error(err))
		}
	}
	p.intake.enter(Stopped, "")
	return nil
}

// settle lets the messages arrive that were asked for and are there. To leave immediately would lose those that are
// between the servers of a cluster: they would not be delivered again before the ack wait.
func (p *pull) settle(atMost time.Duration) leftovers {
	var left leftovers
	if p.inbox == nil || !p.conn.NATS().IsConnected() {
		return nil
	}
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	quiet := time.NewTimer(p.intake.times.quiet)
	defer quiet.Stop()
	for len(left) < p.credit.outstanding {
		select {
		case m := <-p.inbox.arrived:
			if _, isJob := parseAck(m.Reply); isJob {
				left = append(left, m)
				quiet.Reset(p.intake.times.quiet)
			}
		case <-quiet.C:
			return left
		case <-limit.C:
			return left
		}
	}
	return left
}

// empty takes what is in an inbox until nothing can come through it any more.
func (b *inbox) empty(left leftovers, limit <-chan time.Time) leftovers {
	if b == nil {
		return left
	}
	for ended := false; !ended; {
		select {
		case m := <-b.arrived:
			left = append(left, m)
		case <-b.closed:
			ended = true
		case <-limit:
			_ = b.sub.Unsubscribe() // gone already
			ended = true
		}
	}
	for len(b.arrived) > 0 {
		left = append(left, <-b.arrived)
	}
	return left
}
