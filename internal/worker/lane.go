package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/delivery"
	"dbrunner/internal/report"
)

// intakePause bounds the pauses between two runs of an intake that ends by itself.
const (
	intakePauseFirst = 250 * time.Millisecond
	intakePauseLimit = 5 * time.Second
)

var errIntakeReturned = errors.New("intake returned although it was not stopped")

// Options is what a lane is made with.
type Options struct {
	Database string
	Name     string // of the lane: "work", "migration", "health"
	Queue    string // whose jobs it runs; empty: it is no queue's

	Slots            int           // deliveries held at the same time until their database is done with them
	MaxSettling      int           // ended deliveries, more than those, whose results are being published
	AckWait          time.Duration // of the consumer
	UnreachableGrace time.Duration // after it a database's held jobs are requeued

	Intake     Intake
	Executor   Executor
	Results    Results
	Outbox     Outbox
	Gate       *Gate       // shared by the lanes of the database
	Pause      *Pause      // of this lane; nil: it is never paused
	Order      Order       // of an ordered queue; nil: it is none
	Quarantine *Quarantine // shared by the lanes of the runner; nil: this lane has no quarantine

	// Outlives are the kinds whose work, once started, goes on when the lease is lost, because it does not roll back whole.
	Outlives []string

	// Now is the clock of leases: one that goes on while the machine is suspended, as the server's does. nil: time.Now.
	Now func() time.Time

	Observer Observer // nil: none
	Tracer   Tracer   // nil: none
	Logger   *zap.Logger
}

// Lane runs the deliveries of one durable consumer of one database.
type Lane struct {
	opts     Options
	log      *zap.Logger
	table    table
	counters counters

	ending     atomic.Bool    // intake has ended: nothing is started any more
	order      *turns         // of an ordered queue; nil: it is none
	queue      chan *inFlight // to idle goroutines; never blocks, as there is a goroutine for each
	workers    sync.WaitGroup // goroutines that work on deliveries
	extensions sync.WaitGroup // extensions of leases under way
}

// New returns a lane. It runs once.
func New(opts Options) (*Lane, error) {
	var errs []error
	if opts.Slots < 1 {
		errs = append(errs, errors.New("at least one slot is required"))
	}
	if opts.MaxSettling < 0 {
		errs = append(errs, errors.New("max settling is negative"))
	}
	if opts.AckWait < minAckWait {
		errs = append(errs, fmt.Errorf("ack wait is less than %v", minAckWait))
	}
	if opts.Intake == nil || opts.Executor == nil || opts.Results == nil || opts.Outbox == nil || opts.Gate == nil || opts.Logger == nil {
		errs = append(errs, errors.New("intake, executor, results, outbox, gate and logger are required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("worker: lane %s of %s: %w", opts.Name, opts.Database, err)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Pause == nil {
		opts.Pause = &Pause{}
	}
	l := &Lane{
		opts:  opts,
		log:   opts.Logger.With(zap.String("database", opts.Database), zap.String("lane", opts.Name)),
		table: table{slots: opts.Slots, places: opts.MaxSettling},
	}
	if opts.Order != nil {
		l.order = &turns{lane: l, queue: opts.Order}
	}
	l.queue = make(chan *inFlight, opts.Slots+opts.MaxSettling+1) // one may be taken up beside the slots
	return l, nil
}

// minAckWait is the shortest AckWait under which leases can be kept.
const minAckWait = 100 * time.Millisecond

// shutdownGrace is how long results are still stored and messages requeued when all work has to end.
const shutdownGrace = 2 * time.Second

// Run takes and runs deliveries until intake ends, requeues what was not started, and returns when nothing is held
// any more. work ends what is still under way then: it is cancelled and requeued, for which Run takes as long as
// the databases need to roll back, and two seconds where results cannot be stored. It returns nil.
//
// The bus has to live until Run has returned.
func (l *Lane) Run(work, intake context.Context) error {
	over, finished := context.WithCancel(context.WithoutCancel(work))
	last, stopLast := context.WithCancel(over)
	defer stopLast()
	var helpers sync.WaitGroup
	helpers.Go(func() { l.keepLeases(over) })
	helpers.Go(func() {
		select {
		case <-over.Done():
		case <-intake.Done(): // from now on, although the intake itself takes a moment to stop
			l.ending.Store(true)
		}
	})
	helpers.Go(func() {
		select {
		case <-over.Done():
		case <-work.Done():
			_ = sleep(over, shutdownGrace)
			stopLast()
		}
	})
	l.runIntake(work, intake, last)
	for _, h := range l.table.close() {
		l.requeue(h, 0, report.Drained, waiting, awaitingResume) // not started, or failed in an ordered queue
	}
	close(l.queue)
	l.workers.Wait()
	finished()
	helpers.Wait()
	l.extensions.Wait()
	return nil
}

// runIntake runs the intake whenever the gate is open and the lane is not paused, until intake or work ends.
func (l *Lane) runIntake(work, intake, last context.Context) {
	ctx, stop := context.WithCancel(intake)
	defer stop()
	defer context.AfterFunc(work, stop)()
	pause := newBackoff(intakePauseFirst, intakePauseLimit)
	for l.opts.Pause.awaitOpen(ctx, l.opts.Gate) == nil {
		started := time.Now()
		asked, err := l.session(ctx, work, last)
		if asked {
			continue
		}
		if err == nil {
			err = errIntakeReturned
		}
		l.counters.intakeError.Store(err.Error())
		l.log.Error("intake stopped unexpectedly; restarting it", zap.Error(err))
		if time.Since(started) > intakePauseLimit {
			pause.reset()
		}
		_ = pause.sleep(ctx) // awaitOpen sees the end
	}
}

// session runs the intake until ctx ends, the gate closes or the lane is paused: what was granted is void then, so that
// nothing is delivered to a runner that cannot run it. asked reports whether the intake was asked to end.
func (l *Lane) session(ctx, work, last context.Context) (asked bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if why := l.opts.Pause.awaitClosed(ctx, l.opts.Gate); why != nil {
			cancel(why)
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	defer l.table.shut()
	l.counters.intakeError.Store("")
	err = l.opts.Intake.Run(ctx, l.table.open(), func(d delivery.Delivery, m Message) { l.take(work, last, d, m) })
	return ctx.Err() != nil, err
}

// take takes a delivery that has arrived. It never blocks.
func (l *Lane) take(work, last context.Context, d delivery.Delivery, m Message) {
	now := l.opts.Now()
	h := &inFlight{
		delivery: d, message: m, arrived: time.Now(), stage: waiting, now: l.opts.Now,
		survivesLeaseLoss: slices.Contains(l.opts.Outlives, d.Kind),
		deadline:          now.Add(l.opts.AckWait), extendAt: now.Add(extension(l.opts.AckWait)),
	}
	h.delivery.Ordered = l.order != nil
	if l.opts.Tracer != nil {
		h.delivery.Trace = l.opts.Tracer.Start(l.opts.Name, &h.delivery)
	}
	switch l.table.add(h) {
	case toIdle:
		l.queue <- h
	case toNewOne:
		l.workers.Go(func() { l.work(work, last, h) })
	case refused:
		l.log.Error("message without a free slot", zap.Uint64("sequence", d.Sequence))
		l.requeue(h, between(minRequeueDelay, maxRequeueDelay), report.NoSlot, waiting)
	}
}

// Cancel stops the work on held deliveries whose jobs were cancelled: wanted is asked about each of them, while it
// is run. The executor, which must know it by then, is called once more for each to end it.
func (l *Lane) Cancel(wanted func(*delivery.Delivery) bool) {
	for _, h := range l.table.snapshot(nil) {
		if wanted(&h.delivery) {
			h.interrupt()
		}
	}
}

// work is the goroutine that runs one delivery after the other.
func (l *Lane) work(work, last context.Context, h *inFlight) {
	for h != nil {
		h = l.runUntilCanceled(work, last, h)
	}
}

// runUntilCanceled runs deliveries under one context, which is recreated only when it was cancelled, and returns the next
// delivery, or the one that was cancelled; nil when there will be none.
func (l *Lane) runUntilCanceled(work, last context.Context, h *inFlight) *inFlight {
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	for h != nil {
		if h.attach(cancel) {
			goesOn := l.process(last, ctx, h)
			h.detach()
			if goesOn {
				return h
			}
		} else {
			l.requeueUnlessResumed(ctx, h)
		}
		l.table.remove(h)
		h = <-l.queue
		if ctx.Err() != nil {
			break
		}
	}
	return h
}
