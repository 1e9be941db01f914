package outbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"dbrunner/internal/crash"
	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/report"
)

// Source is an outbox. Each method is one committed statement: after an error it may have happened.
type Source interface {
	// Prepare creates the table if it is missing and the engine leaves that to runners.
	Prepare(ctx context.Context) error
	Claim(ctx context.Context, c outboxtable.Claim) (*outboxtable.Claimed, error)
	// Delete deletes rows of a claim that is still valid.
	Delete(ctx context.Context, c *outboxtable.Claimed, tokens []string) (int64, error)
	Release(ctx context.Context, c *outboxtable.Claimed, tokens []string, pause time.Duration) error
	Fail(ctx context.Context, c *outboxtable.Claimed, token, text string) error
	Count(ctx context.Context) (outboxtable.Count, error)
}

// Publisher is NATS, as a relay needs it.
type Publisher interface {
	// Ready waits until there is a connection over which everything is known that keeps a runner from work.
	Ready(ctx context.Context) error
	// Publish publishes messages and returns for each of them nil once a stream has it, report.ErrTooLarge if none ever will, or any
	// other error, after which a stream may have it.
	Publish(ctx context.Context, messages []*report.OutboxMessage) []error
	// Retention asks for how long the ledger of a database keeps a row; 0: it has no ledger.
	Retention(ctx context.Context, database string) (time.Duration, error)
}

// Target is where rows may go.
type Target struct {
	Text     string // the job's subject behind the namespace
	Database string
}

// Options configures a Relay.
type Options struct {
	Database  string // of the outbox
	Targets   []Target
	Source    Source
	Publisher Publisher
	Paused    func() bool // by an operator
	Logger    *zap.Logger

	Claim time.Duration // how long rows are claimed: after it, other relays publish what this one has not deleted
}

// How a relay works.
const (
	batchRows    = 500
	batchBytes   = 8 << 20
	shortestPoll = 50 * time.Millisecond
	longestPoll  = 2 * time.Second
	firstPause   = 100 * time.Millisecond // after a refusal; it doubles
	longestPause = time.Minute
	callTimeout  = 10 * time.Second // of one statement
)

// Relay relays the rows of one outbox, besides those of other runners.
type Relay struct {
	opts    Options
	targets *targets
	relayed atomic.Uint64 // rows deleted after a stream had confirmed them

	mu      sync.Mutex
	counted outboxtable.Count
	at      time.Time // of counted; zero: not counted yet
	failing string    // why the table cannot be used; empty: it can
	since   time.Time // of failing
}

// New returns a relay. It connects to nothing.
func New(opts Options) *Relay {
	return &Relay{opts: opts, targets: newTargets(opts.Targets)}
}

// Run relays until ctx ends. It returns nil.
func (r *Relay) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return r.targets.run(ctx, r.opts.Publisher) })
	group.Go(func() error { return r.count(ctx) })
	group.Go(func() error { return r.poll(ctx) })
	return group.Wait()
}

// poll relays what is there, and looks again after a while that grows while nothing is.
func (r *Relay) poll(ctx context.Context) error {
	wait, prepared := shortestPoll, false
	for ctx.Err() == nil {
		var moved int
		err := r.opts.Publisher.Ready(ctx)
		if err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
		if !prepared {
			err = r.call(ctx, r.opts.Source.Prepare)
			prepared = err == nil
		}
		if err == nil && !r.opts.Paused() {
			moved, err = r.round(ctx)
		}
		r.note(ctx, err)
		switch {
		case err != nil || moved == 0:
			wait = min(2*wait, longestPoll)
		case moved < batchRows:
			wait = shortestPoll
		default:
			wait = 0
		}
		if !pause(ctx, wait) {
			return nil
		}
		wait = max(wait, shortestPoll/2)
	}
	return nil
}

// round claims rows and publishes them, and returns how many are done.
func (r *Relay) round(ctx context.Context) (int, error) {
	skip := r.targets.held(time.Now())
	var claimed *outboxtable.Claimed
	started := time.Now()
	err := r.call(ctx, func(ctx context.Context) (err error) {
		claimed, err = r.opts.Source.Claim(ctx, outboxtable.Claim{Rows: batchRows, Bytes: batchBytes, For: r.opts.Claim, Skip: skip})
		return err
	})
	if err != nil || len(claimed.Rows) == 0 {
		return 0, err
	}
	crash.At("outbox_claimed")
	b := &batch{r: r, claimed: claimed}
	for i := range claimed.Rows {
		b.add(&claimed.Rows[i])
	}
	b.publish(ctx, started.Add(r.opts.Claim/2))
	crash.At("outbox_published")
	return len(b.stored) + len(b.failed), b.settle(ctx)
}

// call makes a call of the source in a bounded time.
func (r *Relay) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx)
}

// note notes whether the table can be used.
func (r *Relay) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	before := r.failing
	r.failing = ""
	if err != nil {
		r.failing = err.Error()
		if before == "" {
			r.since = time.Now()
		}
	}
	r.mu.Unlock()
	log := r.opts.Logger.With(zap.String("database", r.opts.Database))
	switch {
	case err != nil && before != err.Error():
		log.Warn("outbox not relayed", zap.Error(err))
	case err == nil && before != "":
		log.Info("outbox relayed again")
	}
}

// batch is the rows of one claim.
type batch struct {
	r        *Relay
	claimed  *outboxtable.Claimed
	messages []*report.OutboxMessage
	tokens   []string // of messages
	stored   []string // tokens of rows that a stream has
	failed   map[string]string
	refused  map[time.Duration][]string // tokens by how long they wait for another attempt
}

// add makes the message of a row, or its error.
func (b *batch) add(row *outboxtable.Row) {
	database, configured := b.r.targets.database(row.Target)
	retention := b.r.targets.retention(database)
	if configured && retention == 0 { // between the claim and now
		b.refuse(row.Token, firstPause)
		return
	}
	m, problem := message(b.r.opts.Database, row, configured, database, retention)
	if problem != "" {
		b.fail(row.Token, problem)
		return
	}
	b.messages, b.tokens = append(b.messages, m), append(b.tokens, row.Token)
}

func (b *batch) fail(token, text string) {
	if b.failed == nil {
		b.failed = map[string]string{}
	}
	b.failed[token] = text
}

func (b *batch) refuse(token string, pause time.Duration) {
	if b.refused == nil {
		b.refused = map[time.Duration][]string{}
	}
	b.refused[pause] = append(b.refused[pause], token)
}

// publish publishes the messages until a time, after which the claim would not last to delete the rows.
func (b *batch) publish(ctx context.Context, until time.Time) {
	if len(b.messages) == 0 || !time.Now().Before(until) {
		return
	}
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	errs := b.r.opts.Publisher.Publish(bounded, b.messages)
	held := map[string]time.Duration{}
	for i, err := range errs {
		target := b.messages[i].Target
		switch {
		case err == nil:
			b.stored = append(b.stored, b.tokens[i])
		case errors.Is(err, report.ErrTooLarge):
			b.fail(b.tokens[i], errTooLong)
		case ctx.Err() != nil: // the runner stops
			b.refuse(b.tokens[i], 0)
		default:
			if _, noted := held[target]; !noted {
				held[target] = b.r.targets.hold(target, err)
			}
			b.refuse(b.tokens[i], held[target])
		}
	}
	for i, err := range errs {
		if target := b.messages[i].Target; err == nil && held[target] == 0 {
			b.r.targets.accept(target)
		}
	}
}

// settle writes down what became of the rows. What it cannot write is left to the next claim: immediately when the runner stops, which
// shall not wait for a database once for each row.
func (b *batch) settle(ctx context.Context) error {
	source, errs := b.r.opts.Source, []error{}
	write := func(do func(context.Context) error) {
		if ctx.Err() != nil && errors.Join(errs...) != nil {
			return
		}
		errs = append(errs, b.r.call(context.WithoutCancel(ctx), do)) // what was published shall not be published again at each restart
	}
	if len(b.stored) > 0 {
		write(func(ctx context.Context) error {
			n, err := source.Delete(ctx, b.claimed, b.stored)
			b.r.relayed.Add(uint64(max(n, 0)))
			return err
		})
		crash.At("outbox_deleted")
	}
	for wait, tokens := range b.refused {
		write(func(ctx context.Context) error { return source.Release(ctx, b.claimed, tokens, wait) })
	}
	for token, text := range b.failed {
		write(func(ctx context.Context) error {
			err := source.Fail(ctx, b.claimed, token, text)
			if err == nil {
				b.r.opts.Logger.Warn("outbox row kept with an error", zap.String("database", b.r.opts.Database), zap.String("token", token), zap.String("error", text))
			}
			return err
		})
	}
	return errors.Join(errs...)
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// names returns the names of the databases of targets.
func names(list []Target) []string {
	var out []string
	for _, t := range list {
		if !slices.Contains(out, t.Database) {
			out = append(out, t.Database)
		}
	}
	return out
}
