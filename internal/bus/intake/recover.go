package intake

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// open subscribes and starts pulling; if that fails the recovery goes on.
func (p *pull) open(ctx context.Context) {
	b := &inbox{
		arrived: make(chan *nats.Msg, inboxSize),
		closed:  make(chan struct{}),
		subject: p.conn.NATS().NewInbox() + ".",
	}
	p.renewals, _ = p.conn.Link()
	sub, err := p.conn.NATS().ChanSubscribe(b.subject+"*", b.arrived)
	if err != nil {
		p.beginRecovery(ctx, bus.ErrorText(err))
		return
	}
	var once sync.Once // the library may say so twice
	sub.SetClosedHandler(func(string) { once.Do(func() { close(b.closed) }) })
	b.sub = sub
	p.inbox = b
	p.alive = time.Now()
	p.intake.enter(Pulling, "")
}

// beginRecovery ends the inbox and finds out what became of the consumer. Messages that are on the way still arrive.
func (p *pull) beginRecovery(ctx context.Context, reason string) {
	p.intake.enter(Recovering, reason)
	p.intake.count(func(s *State) { s.Recoveries++ })
	p.stopLingering()
	p.failures++
	p.interrupted = true
	if p.inbox != nil {
		p.draining, p.inbox = p.inbox, nil
		p.drainUntil = time.Now().Add(p.intake.times.drain)
		p.draining.finish(p.conn.NATS().IsConnected())
		return // drained goes on
	}
	if p.draining == nil {
		p.inspect(ctx)
	}
}

// finish lets everything arrive that the server has sent before it learns that we left; without a link nothing
// can.
func (b *inbox) finish(connected bool) {
	if !connected || b.sub.Drain() != nil {
		_ = b.sub.Unsubscribe() // fails only where it is unsubscribed already
	}
}

// drained is called when nothing can come through the old inbox any more: what was asked for there and has not
// come will not come.
func (p *pull) drained(ctx context.Context) {
	old := p.draining
	for len(old.arrived) > 0 {
		p.dispatch(ctx, <-old.arrived)
	}
	p.draining = nil
	p.credit.giveUpAll()
	p.inspect(ctx)
}

// inspect polls in the background until the consumer is there.
func (p *pull) inspect(ctx context.Context) {
	if p.inspected != nil {
		return
	}
	answer := make(chan inspection, 1)
	p.inspected = answer
	wait := time.Duration(0)
	if p.failures > 1 { // it was there the last time, and yet no message came
		wait = bus.Backoff(p.failures, 20*time.Millisecond, p.intake.times.retry)
	}
	go func() { // ends with the context at the latest; stop waits for its answer
		info, err := p.intake.findConsumer(ctx, wait)
		answer <- inspection{info, err}
	}()
}

// resume takes over what the inspection found and pulls again.
func (p *pull) resume(ctx context.Context, found inspection) {
	p.inspected = nil
	if found.err != nil {
		return // the context has ended
	}
	p.intake.learn(found.info)
	if !found.info.Created.Equal(p.created) {
		p.consumerSeq, p.topSequence = 0, 0
	}
	p.created, p.doubt = found.info.Created, false
	if p.interrupted && !replicated(found.info) {
		p.certain = found.info.TimeStamp
	}
	p.interrupted = false
	switch {
	case p.inbox != nil:
		p.intake.enter(Pulling, "")
	case p.draining == nil:
		p.open(ctx)
	}
}

// replicated reports whether a consumer's counts survive the loss of its server. Those of a single server are
// written behind the deliveries: killed at the wrong moment it delivers a message as the first time once more.
func replicated(info *jetstream.ConsumerInfo) bool {
	return info.Cluster != nil && len(info.Cluster.Replicas) > 0
}

// findConsumer waits until the consumer can be read, and creates it if that is our task.
func (i *Intake) findConsumer(ctx context.Context, wait time.Duration) (*jetstream.ConsumerInfo, error) {
	for attempt := 0; ; attempt++ {
		if err := bus.Pause(ctx, wait); err != nil {
			return nil, err
		}
		if err := i.conn.AwaitLink(ctx); err != nil {
			return nil, err
		}
		if err := i.conn.Ready(ctx); err != nil {
			return nil, err
		}
		info, err := i.readConsumer(ctx)
		if err == nil {
			return info, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		i.enter(Recovering, bus.ErrorText(err))
		wait = bus.Backoff(attempt, 50*time.Millisecond, i.times.retry)
	}
}

func (i *Intake) readConsumer(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	var info jetstream.ConsumerInfo
	err := i.conn.API(ctx, "CONSUMER.INFO."+i.stream+"."+i.name, nil, &info)
	if err == nil {
		return &info, nil
	}
	restore := i.conn.Restorer()
	if !errors.Is(err, bus.ErrNotFound) || restore == nil {
		return nil, err
	}
	if err := restore(ctx); err != nil {
		return nil, err
	}
	if err := i.conn.API(ctx, "CONSUMER.INFO."+i.stream+"."+i.name, nil, &info); err != nil {
		return nil, err
	}
	i.log.Error("consumer or stream of the lane deleted; created again", zap.String("stream", i.stream))
	return &info, nil
}

// tick notices silence, lost status messages and a consumer that has to be read again.
func (p *pull) tick(ctx context.Context, now time.Time) {
	if p.draining != nil && now.After(p.drainUntil) {
		_ = p.draining.sub.Unsubscribe() // the link hangs: do not wait for it
	}
	if p.inbox == nil {
		return
	}
	p.scanForOrphans(ctx, now)
	p.credit.expire(second(p.epoch, now))
	p.intake.count(func(s *State) { s.Outstanding = p.credit.outstanding })
	switch {
	case p.credit.outstanding > 0 && len(p.inbox.arrived) == 0 && now.Sub(p.alive) > p.intake.times.silence:
		p.beginRecovery(ctx, p.conn.Blame("the consumer is silent"))
	case p.doubt:
		p.inspect(ctx)
	}
}
