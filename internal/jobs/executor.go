package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
)

// ExecutorOptions is what running the jobs of one database needs.
type ExecutorOptions struct {
	Namespace string
	Runner    string // this runner's instance name
	Database  db.Database
	Policy    *Policy
	Results   ResultReader
	MaxBody   int // largest body of a job, bytes
	MaxResult int // largest encoded result that the results stream takes, bytes

	// Outside runs statements outside of transactions where Database is behind a pooler that gives no sessions; nil: Database
	// runs them itself.
	Outside    AutocommitExecutor
	Migrations Migrator // nil: jobs of kind migration fail
	Health     *Checker // nil: one without thresholds

	Inputs  Inputs  // parameters outside of jobs; nil: jobs that want them fail
	Objects Objects // keeps rows that have no room in results; nil: nothing does

	Cancellations Cancellations // nil: nobody cancels
}

// Executor runs the jobs of one database and decides what each delivery of a message means. It holds no job
// between two calls; every method may be called from many goroutines at once.
type Executor struct {
	opts    ExecutorOptions
	decoder *Decoder
	bodies  db.Buffers // of large results
}

// envelopeReserve is what a result needs at most besides its rows and columns: 16 KiB of labels, escaped in the
// worst case, faults, ids and times.
const envelopeReserve = 128 << 10

// envelopeSize is what a result mostly takes besides its answer.
const envelopeSize = 640

// statementReserve is what one statement's answer needs at most besides its rows and columns: its keys.
const statementReserve = 128

// NewExecutor returns the executor of one database.
func NewExecutor(opts ExecutorOptions) (*Executor, error) {
	if opts.MaxResult <= envelopeReserve {
		return nil, fmt.Errorf("the results stream takes messages of %d bytes; at least %d are needed", opts.MaxResult, 2*envelopeReserve)
	}
	if opts.Health == nil {
		opts.Health = NewChecker(CheckerOptions{Database: opts.Database})
	}
	decoder := NewDecoder(DecoderOptions{
		Namespace: opts.Namespace,
		Policy:    opts.Policy,
		Dialect:   opts.Database.Dialect(),
		MaxBody:   opts.MaxBody,
		Inputs:    opts.Inputs,
	})
	return &Executor{opts: opts, decoder: decoder}, nil
}

// maxRefuted is how many executions of one delivery may end as if the database were down, while a probe finds it well: one
// by chance, as when the database was back a moment later. The second one makes it the job's own failure.
const maxRefuted = 2

// Run runs one delivery to its end: decodes, looks for an earlier end where there is doubt, executes with
// repetitions of transient errors, and gives every end its ledger row where the effect asks for one.
//
// begin is called each time a connection was got and nothing was sent yet; an error from it makes the outcome
// Drop. ctx ending (the lease is lost, the work must stop) makes it Drop too, but never after a commit that was
// answered: then the outcome is Settle whatever the context says.
func (e *Executor) Run(ctx context.Context, d *Delivery, begin func() error) (out Outcome) {
	r := &run{e: e, d: d, allow: begin, id: contract.DerivedID(d.Sequence, d.Timestamp), derived: true}
	if d.attempts == 0 {
		d.begunBefore = d.MaybeRedelivered
	}
	defer func() {
		if p := recover(); p != nil {
			d.sawUnknown = d.sawUnknown || d.attempts > 0
			out = r.defect(ctx)
			out.Reason = panicError(p)
		}
		out.Began = d.attempts > 0
		d.MaybeRedelivered = d.MaybeRedelivered || out.Began
	}()
	if d.Deliveries > e.opts.Policy.MaxDeliveries {
		return r.giveUp(ctx)
	}
	d.Step(StepDecode)
	job, rejection := e.decoder.Decode(d)
	d.Step(StepNone)
	if rejection != nil {
		return r.rejected(ctx, rejection)
	}
	r.take(job)
	switch {
	case r.d.Refuted >= maxRefuted && r.d.suspicion != nil && r.d.told == nil && r.preempted() == nil:
		return r.endFailed(ctx, ownDoingError(r.d.suspicion), answer{})
	case r.effect == ExactlyOnce:
		return r.exactlyOnce(ctx)
	case r.effect == AtMostOnce:
		return r.atMostOnce(ctx)
	case job.ReplyOnly:
		return r.execute(ctx, nil)
	default:
		return r.withoutLedger(ctx)
	}
}

// run is one delivery under way.
type run struct {
	e     *Executor
	d     *Delivery
	job   *Job // nil until decoded
	allow func() error

	id      string // the job's id; the derived one until decoding says otherwise
	derived bool
	effect  Effect // empty if unreadable
	hash    []byte
	replyTo string
	labels  map[string]string

	refused error     // what begin said
	begunAt time.Time // when it said so last
	begun   bool      // it did in the execution under way, or the last one
	body    []byte    // the result that was encoded last
}

func (r *run) take(job *Job) {
	r.job, r.id, r.derived, r.effect, r.hash = job, job.ID, job.DerivedID, job.Effect, job.Hash
	r.replyTo, r.labels = job.ReplyTo, job.Labels
}

// begin is the hook of db.Call: the last moment at which a job may be left alone.
func (r *run) begin() error {
	if why := r.preempted(); why != nil {
		r.refused = why
		return why
	}
	if r.allow != nil {
		if err := r.allow(); err != nil {
			r.refused = err
			return err
		}
	}
	crash.AtJob(r.id)
	r.d.attempts++
	r.begunAt, r.begun = time.Now(), true
	if r.d.startedAt.IsZero() {
		r.d.startedAt = r.begunAt
	}
	r.d.Step(StepExecute)
	return nil
}

// exactlyOnce runs a job whose effect is fenced by a ledger row in its own transaction.
func (r *run) exactlyOnce(ctx context.Context) Outcome {
	if why := r.preempted(); why != nil {
		return r.endPreempted(ctx, why)
	}
	if r.d.MaybeRedelivered {
		if out, ended := r.replay(ctx); ended {
			return out
		}
		return r.execute(ctx, nil) // the look has just been done
	}
	if r.derived {
		return r.execute(ctx, nil) // nobody else can have this id
	}
	return r.execute(ctx, r.startResultLookup(ctx))
}

// withoutLedger runs a job that has no ledger row: a read, or work whose repetition is harmless.
func (r *run) withoutLedger(ctx context.Context) Outcome {
	if r.d.MaybeRedelivered || r.effect == AtLeastOnce && !r.derived {
		look := r.lookupResult
		if r.d.MaybeRedelivered {
			look = r.storedResult
		}
		existing, err := look(ctx)
		if err != nil {
			return Outcome{Action: Undecided}
		}
		if existing != nil {
			return r.existing(ctx, existing)
		}
	}
	if why := r.preempted(); why != nil {
		return r.endPreempted(ctx, why)
	}
	return r.execute(ctx, nil)
}

// execute runs the work until it ends, repeating what is safe to repeat. A look under way is awaited before the
// COMMIT.
func (r *run) execute(ctx context.Context, look *resultLookup) Outcome {
	defer look.stop()
	x := &execution{
		opts: &r.e.opts, d: r.d,
		call: db.Call{Label: r.id, Timeout: r.job.Timeout, Begin: r.begin},
		rows: r.rowOptions(),
	}
	r.allowOverflow(x)
	switch r.effect {
	case ExactlyOnce:
		x.seal = func(ctx context.Context, a answer) (*db.Entry, error) { return r.seal(ctx, look, a) }
	case AtMostOnce:
		x.once = r.once()
	default: // nothing is on record before the end
	}
	var given answer
	err := db.Retry(ctx, r.retryOptions(), r.repeatable, func(ctx context.Context) error {
		if err := r.awaitInputs(ctx, x.last); err != nil {
			return err
		}
		if err := x.over.begin(ctx); err != nil {
			return err
		}
		err := error(errPanicked)
		defer func() { x.over.end(ctx, err) }()
		r.begun = false
		r.d.Step(StepAcquire)
		given, err = r.job.work.run(ctx, x)
		x.last = err
		r.d.stepFailed(err)
		r.d.Step(StepNone)
		if db.ClassOf(err) == db.ClassUnknown {
			r.d.sawUnknown = true
		}
		return err
	})
	defer func() { given.release() }()
	if x.once != nil {
		return r.onceExecuted(ctx, err)
	}
	if err != nil {
		return r.failed(ctx, err, given)
	}
	crash.At("after_commit")
	if x.seal == nil {
		return r.endWith(Succeeded, nil, given)
	}
	out := r.settle(Succeeded, nil)
	out.ended.row = r.entry(Succeeded)
	return out
}

// awaitInputs waits for the store of parameters where an execution has failed for want of it.
func (r *run) awaitInputs(ctx context.Context, last error) error {
	if e, ok := errors.AsType[*db.Error](last); !ok || e.Code != CodeParamsUnavailable {
		return nil
	}
	return r.e.opts.Inputs.Ready(ctx)
}

// seal encodes the result as it will be published, for the ledger row that is committed with the effect.
func (r *run) seal(ctx context.Context, look *resultLookup, a answer) (*db.Entry, error) {
	existing, err := look.wait(ctx)
	if err != nil {
		return nil, &lookupError{err}
	}
	if existing != nil {
		return nil, &takenError{existing}
	}
	r.body = r.encode(Succeeded, nil, a)
	if len(r.body) > r.e.opts.MaxResult {
		return nil, tooLargeError(len(r.body), r.e.opts.MaxResult)
	}
	return r.entry(Succeeded), nil
}

// repeatable tells the errors after which the whole execution may be repeated at once: it is rolled back, or a
// repetition finds out (exactly_once), or is harmless (read_only, at_least_once), or nothing was begun (at_most_once).
func (r *run) repeatable(err error) bool {
	if r.refused != nil || r.d.told != nil {
		return false
	}
	switch db.ClassOf(err) {
	case db.ClassTransient, db.ClassLost:
		return true
	case db.ClassUnknown:
		return r.effect != AtMostOnce
	default:
		_, lost := errors.AsType[*lookupError](err)
		return lost
	}
}

// failed decides what an execution's last error means; given is what the work has to tell of it.
func (r *run) failed(ctx context.Context, err error, given answer) Outcome {
	if taken, ok := errors.AsType[*takenError](err); ok {
		return r.existing(ctx, taken.existing)
	}
	if r.refused != nil {
		if errors.Is(r.refused, errExpired) || errors.Is(r.refused, errCanceled) {
			return r.endPreempted(ctx, r.refused)
		}
		return Outcome{Action: Undecided}
	}
	if ctx.Err() != nil {
		if out, ended := r.stopped(given); ended {
			return out
		}
		return Outcome{Action: Undecided}
	}
	if _, ok := errors.AsType[*lookupError](err); ok {
		return Outcome{Action: Undecided} // the bus does not answer: neither could the result be stored
	}
	e, ok := errors.AsType[*db.Error](err)
	if !ok {
		out := r.defect(ctx)
		out.Reason = fmt.Errorf("an engine returned a %T", err)
		return out
	}
	switch e.Class {
	case db.ClassUnavailable:
		if r.begun {
			r.d.suspicion = e
		}
		return Outcome{Action: AwaitDatabase, Reason: e, Suspect: r.begun}
	case db.ClassCanceled:
		return Outcome{Action: Undecided}
	case db.ClassAlreadyRecorded:
		return r.taken(ctx)
	case db.ClassTookEffect:
		return r.endWith(Succeeded, resultError(e), given)
	default:
		return r.endFailed(ctx, e, given)
	}
}

func (r *run) endFailed(ctx context.Context, e *db.Error, given answer) Outcome {
	if r.effect.Fenced() {
		return r.endRecorded(ctx, Failed, resultError(e))
	}
	if r.effect == AtLeastOnce && r.d.sawUnknown {
		return r.end(Unknown, unknownError())
	}
	return r.endWith(Failed, resultError(e), given)
}

// rowOptions are those of rows that stay in the result.
func (r *run) rowOptions() db.RowOptions {
	p := r.e.opts.Policy
	fits := int64(r.e.opts.MaxResult - envelopeReserve - statementReserve*r.job.work.size())
	return db.RowOptions{
		Format: r.job.RowFormat, MaxRows: tighterLimit(r.job.MaxRows, p.MaxRows), MaxBytes: max(tighterLimit(p.MaxBytes, fits), 1),
	}
}

// tighterLimit is the lower one of two limits; zero is none.
func tighterLimit(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (r *run) retryOptions() db.RetryOptions {
	p := r.e.opts.Policy.Retry
	return db.RetryOptions{Attempts: p.Attempts, Delay: p.Delay, MaxDelay: p.MaxDelay}
}

// encode encodes a result of this delivery, whatever its size.
func (r *run) encode(status Status, e *ResultError, a answer) []byte {
	res := Result{
		JobID: r.id, Kind: r.d.Kind, Database: r.d.Database, Effect: r.effect, Status: status,
		Hash: r.hash, Sequence: r.d.Sequence, Deliveries: r.d.Deliveries, Attempts: r.d.attempts,
		Runner: r.e.opts.Runner, QueuedAt: r.d.Timestamp, StartedAt: r.d.startedAt, FinishedAt: time.Now(),
		Labels: r.labels, Error: e, answer: a,
	}
	return res.Append(r.e.bodies.Get(envelopeSize + a.size))
}

// entry is the ledger row for the body that was encoded last.
func (r *run) entry(status Status) *db.Entry {
	return &db.Entry{
		JobID: r.id, RequestHash: r.hash, Status: string(status), Answer: r.body,
		Sequence: r.d.Sequence, Timestamp: r.d.Timestamp, Runner: r.e.opts.Runner,
	}
}
