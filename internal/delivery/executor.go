package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
	"dbrunner/internal/report"
)

// ExecutorOptions is what running the jobs of one database needs.
type ExecutorOptions struct {
	Namespace string
	Runner    string // this runner's instance name
	Database  db.Database
	Policy    *jobs.Policy
	Results   ResultReader
	MaxBody   int // largest body of a job, bytes
	MaxResult int // largest encoded result that the results stream takes, bytes

	// Outside runs statements outside of transactions where Database is behind a pooler that gives no sessions; nil: Database
	// runs them itself.
	Outside    jobs.AutocommitExecutor
	Migrations jobs.Migrator      // nil: jobs of kind migration fail
	Health     jobs.HealthChecker // nil: jobs of kind health fail

	Inputs  bulk.Inputs  // parameters outside of jobs; nil: jobs that want them fail
	Objects bulk.Objects // keeps rows that have no room in results; nil: nothing does

	Cancellations Cancellations // nil: no job is cancelled
}

// Executor runs the jobs of one database and decides what each delivery of a message means. It holds no job
// between two calls; every method may be called concurrently.
type Executor struct {
	opts    ExecutorOptions
	decoder *jobs.Decoder
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
	decoder := jobs.NewDecoder(jobs.DecoderOptions{
		Namespace:  opts.Namespace,
		Policy:     opts.Policy,
		Dialect:    opts.Database.Dialect(),
		MaxBody:    opts.MaxBody,
		Inputs:     opts.Inputs,
		MaxRequest: opts.MaxResult / 4,
	})
	return &Executor{opts: opts, decoder: decoder}, nil
}

// Decoder is the decoder of the executor's jobs.
func (e *Executor) Decoder() *jobs.Decoder { return e.decoder }

// maxRefuted is how many executions of one delivery may end as if the database were down, while a probe finds it well: one
// by chance, as when the database was back a moment later. The second one makes it the job's own failure.
const maxRefuted = 2

// Run runs one delivery to its end: decodes, looks for an earlier end where there is doubt, executes with
// repetitions of transient errors, and gives every end its ledger row where the effect asks for one.
//
// begin is called each time a connection was got and nothing was sent yet; an error from it makes the outcome
// Undecided. ctx ending (the lease is lost, the work must stop) makes it Undecided too, but never after a commit that was
// answered: then the outcome is Settle whatever the context says.
func (e *Executor) Run(ctx context.Context, d *Delivery, begin func() error) (out Outcome) {
	r := &run{e: e, d: d, allow: begin, id: d.DerivedID(), derived: true}
	if d.attempts == 0 {
		d.startedBefore = d.MaybeRedelivered
	}
	defer func() {
		if p := recover(); p != nil {
			d.sawUnknown = d.sawUnknown || d.attempts > 0
			out = r.defect(ctx, panicError(p))
		}
		out.Started = d.attempts > 0
		d.MaybeRedelivered = d.MaybeRedelivered || out.Started
	}()
	if r.takeStoredLate() {
		return r.decide(ctx)
	}
	if d.Deliveries > e.opts.Policy.MaxDeliveries { // what decoding or running it does to runners, it does not do here
		r.scan()
		r.verdict = r.undeliverableVerdict()
		return r.decide(ctx)
	}
	d.Step(report.StepDecode)
	job, rejection := e.decoder.Decode(&d.Message)
	d.Step(report.StepNone)
	if rejection != nil {
		r.takeRejection(rejection)
		crash.At("after_rejection")
		return r.decide(ctx)
	}
	r.take(job)
	if d.Refuted >= maxRefuted && d.suspicion != nil && d.known == nil && r.preempted() == nil {
		r.verdict = r.failedVerdict(ownDoingError(d.suspicion))
	}
	return r.decide(ctx)
}

// run is one delivery under way.
type run struct {
	e     *Executor
	d     *Delivery
	job   *jobs.Job // nil until decoded
	allow func() error

	id      string // the job's id; the derived one until decoding says otherwise
	ownID   string // the id that a message which was stored late asks for
	derived bool
	effect  contract.Effect // empty if unreadable
	hash    []byte
	replyTo string
	labels  map[string]string
	call    *contract.Call // nil if the job is no call

	found   earlier
	verdict verdict

	superseding bool       // rows of this run are written over an old one
	sealed      completion // of the attempt that may commit

	over    bulk.Overflow
	refused error // what begin returned
	lastErr error // of the execution before
	started bool  // it returned nil in the execution under way, or the last one
}

func (r *run) take(job *jobs.Job) {
	r.job, r.id, r.derived, r.effect, r.hash = job, job.ID, job.DerivedID, job.Effect, job.Hash
	r.replyTo, r.labels, r.call = job.ReplyTo, job.Labels, job.Call
}

// takeRejection takes over what could be read of a job that cannot be understood or is not allowed. Another runner, of
// another version or with another configuration, may understand it, also at this moment: so a job that may have a ledger row
// gets one before it is rejected. Only what no runner can accept is rejected immediately.
func (r *run) takeRejection(rej *jobs.Rejection) {
	r.id, r.derived, r.effect, r.hash = rej.ID, rej.DerivedID, rej.Effect, rej.Hash
	r.replyTo, r.labels, r.call = rej.ReplyTo, rej.Labels, rej.Call
	r.verdict = invalidVerdict(rej)
}

// scan takes over what can be read of a message without decoding it.
func (r *run) scan() {
	s := r.e.decoder.Scan(&r.d.Message)
	r.id, r.derived, r.effect, r.replyTo, r.call = s.ID, s.DerivedID, s.Effect, s.ReplyTo, s.Call
}

// scanUndecoded is scan of a message whose decoding panicked: another version may decode it, and run it under its own id.
// The scan may come upon the same defect; then the answer goes under the derived id.
func (r *run) scanUndecoded() {
	defer func() { _ = recover() }()
	if r.job == nil && r.effect == "" {
		r.scan()
	}
}

// defect finishes a delivery whose running panicked or returned what it cannot: a defect of the runner that must cost
// neither the runner nor the job. What the job's connection had open is rolled back with it.
func (r *run) defect(ctx context.Context, why error) (out Outcome) {
	defer func() {
		if recover() != nil {
			out = Outcome{Action: Undecided}
		}
		out.Reason = why
	}()
	r.scanUndecoded()
	r.found, r.verdict = earlier{}, r.defectVerdict()
	return r.decide(ctx)
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
	now := time.Now()
	r.over.StartedAt, r.started = now, true
	if r.d.startedAt.IsZero() {
		r.d.startedAt = now
	}
	r.d.Step(report.StepExecute)
	return nil
}

// execute runs the work until it finishes, repeating what is safe to repeat. false: it has added to the facts.
func (r *run) execute(ctx context.Context) (Outcome, bool) {
	if out, ready := r.readDryRun(ctx); !ready {
		return out, out.Action != 0
	}
	o := &r.e.opts
	x := &jobs.Execution{
		Database: o.Database, Outside: o.Outside, Migrations: o.Migrations, Health: o.Health,
		Message: &r.d.Message, Call: db.Call{Label: r.id, Timeout: r.job.Timeout, Begin: r.begin}, Rows: r.rowOptions(), MaxAffected: r.e.opts.Policy.MaxAffected,
	}
	r.allowOverflow(x)
	switch r.effect {
	case contract.ExactlyOnce:
		x.Seal = func(_ context.Context, a jobs.Answer) (_ *db.Entry, err error) {
			r.sealed, err = r.seal(a)
			return r.sealed.row, err
		}
	case contract.AtMostOnce:
		x.Once = r.once()
	default: // nothing is on record before it finishes
	}
	var given jobs.Answer
	err := retry(ctx, r.e.opts.Policy.Retry, r.repeatable, func(ctx context.Context) (err error) {
		// The first execution of a delivery that is not in doubt: what became of any other one, a run by itself finds out soonest.
		x.Shared = r.e.opts.Policy.SharedCommits && !r.d.MaybeRedelivered && !r.d.sawUnknown && r.d.attempts == 0 && r.d.supersedes.IsZero()
		given, err = r.attempt(ctx, x)
		return err
	})
	defer func() { given.Release() }()
	switch {
	case x.Once != nil:
		return r.onceExecuted(ctx, err)
	case err != nil:
		return r.failed(ctx, err, given)
	}
	crash.At("after_commit")
	if x.Seal == nil {
		return r.outcome(r.complete(contract.Succeeded, nil, given)), true
	}
	return r.outcome(r.sealed), true
}

// attempt runs the work once.
func (r *run) attempt(ctx context.Context, x *jobs.Execution) (given jobs.Answer, err error) {
	if err := r.awaitInputs(ctx, r.lastErr); err != nil {
		return jobs.Answer{}, err
	}
	if err := r.over.Start(ctx); err != nil {
		return jobs.Answer{}, err
	}
	err = errPanicked
	defer func() { r.over.Finish(ctx, err) }()
	r.started = false
	if r.job.Rereads {
		r.d.sawUnknown = false // what became of an earlier attempt, this one reads
	}
	r.d.Step(report.StepAcquire)
	given, err = r.job.Run(ctx, x)
	r.lastErr = err
	r.d.stepFailed(err)
	r.d.Step(report.StepNone)
	if db.ClassOf(err) == db.ClassUnknown {
		r.d.sawUnknown = true
	}
	return given, err
}

// errPanicked is the error of an execution that returned none.
var errPanicked = errors.New("the execution panicked")

// allowOverflow lets the rows of a job go outside where it may.
func (r *run) allowOverflow(x *jobs.Execution) {
	p, out := &r.e.opts.Policy.Output, r.job.Output
	if out.Mode == jobs.OutputInline || r.job.ReplyOnly || p.Off || r.e.opts.Objects == nil {
		return
	}
	if r.effect == contract.RolledBack { // it returns as many rows as the transaction may, but writes no object
		x.Rows.MaxRows = jobs.TighterLimit(r.job.MaxRows, p.MaxRows)
		return
	}
	r.over.Target = bulk.Target{
		Objects: r.e.opts.Objects, Format: out.Format, Compression: out.Compression, Dialect: r.e.opts.Database.Dialect(),
		Database: r.d.Database, JobID: r.id, Sequence: r.d.Sequence, Timestamp: r.d.Timestamp, Timeout: r.job.Timeout,
	}
	x.Rows.InlineBytes, x.Rows.Sets = x.Rows.MaxBytes, r.job.Statements()
	x.Rows.MaxRows, x.Rows.MaxBytes = jobs.TighterLimit(r.job.MaxRows, p.MaxRows), p.MaxBytes
	x.Rows.Overflow, x.Rows.AlwaysOverflow = &r.over, out.Mode == jobs.OutputObject
}

// awaitInputs waits for the store of parameters where an execution has failed for want of it.
func (r *run) awaitInputs(ctx context.Context, last error) error {
	if e, ok := errors.AsType[*db.Error](last); !ok || e.Code != contract.CodeParamsUnavailable {
		return nil
	}
	return r.e.opts.Inputs.Ready(ctx)
}

// repeatable reports whether the whole execution may be repeated immediately: it is rolled back, or a
// repetition finds out (exactly_once), or is harmless (read_only, at_least_once), or nothing was started (at_most_once).
func (r *run) repeatable(err error) bool {
	if r.refused != nil || r.d.known != nil {
		return false
	}
	switch db.ClassOf(err) {
	case db.ClassTransient, db.ClassLost:
		return true
	case db.ClassUnknown:
		return r.effect != contract.AtMostOnce
	default:
		return false
	}
}

// failed decides what an execution's last error means; given is the work's partial answer. false: it has added to the
// facts.
func (r *run) failed(ctx context.Context, err error, given jobs.Answer) (Outcome, bool) {
	if r.refused != nil {
		if errors.Is(r.refused, errExpired) || errors.Is(r.refused, errCanceled) {
			r.verdict = r.preemptedVerdict(r.refused)
			return Outcome{}, false
		}
		return Outcome{Action: Undecided}, true
	}
	if ctx.Err() != nil {
		return r.stopped(given), true
	}
	e, ok := errors.AsType[*db.Error](err)
	if !ok {
		return r.defect(ctx, fmt.Errorf("an engine returned a %T", err)), true
	}
	switch e.Class {
	case db.ClassUnavailable:
		if r.started {
			r.d.suspicion = e
		}
		return Outcome{Action: AwaitDatabase, Reason: e, MayBeCause: r.started}, true
	case db.ClassCanceled:
		return Outcome{Action: Undecided}, true
	case db.ClassAlreadyRecorded: // found by our own insert: the row is committed
		r.found = earlier{taken: true}
		return Outcome{}, false
	case db.ClassTookEffect:
		return r.outcome(r.complete(contract.Succeeded, resultError(e), given)), true
	default:
		r.verdict = r.failedVerdict(e)
		if r.verdict.status == contract.Unknown {
			given = jobs.Answer{} // of this attempt alone
		}
		return r.finish(ctx, r.verdict.status, r.verdict.err, given)
	}
}

// rowOptions are those of rows that stay in the result.
func (r *run) rowOptions() db.RowOptions {
	p := r.e.opts.Policy
	fits := int64(r.e.opts.MaxResult - envelopeReserve - statementReserve*r.job.Statements() - r.job.Reserve())
	return db.RowOptions{
		Format: r.job.RowFormat, MaxRows: jobs.TighterLimit(r.job.MaxRows, p.MaxRows), MaxBytes: max(jobs.TighterLimit(p.MaxBytes, fits), 1),
	}
}
