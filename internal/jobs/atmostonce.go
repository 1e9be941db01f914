package jobs

import (
	"bytes"
	"context"
	"errors"
	"time"

	"dbrunner/internal/crash"
	"dbrunner/internal/db"
)

// once is what work that happens at most once leaves on record; see db.Once.
type once struct {
	start *db.Entry
	end   func(ctx context.Context, a answer, err error) *db.Entry
}

// knownOutcome is the end of an execution at most once, as the server told it.
type knownOutcome struct {
	status Status
	err    *ResultError
	row    *db.Entry
}

// noAnswer stands in the row of a job that was begun. Nobody reads it.
const noAnswer = "{}"

// atMostOnce runs a job that is never executed twice: a row is committed before it is begun. No transaction takes its
// effect back, so that a result which another message has left under its id is looked for before.
func (r *run) atMostOnce(ctx context.Context) Outcome {
	if r.d.told != nil {
		return r.conclude(ctx)
	}
	if why := r.preempted(); why != nil {
		return r.endPreempted(ctx, why)
	}
	if r.d.MaybeRedelivered {
		if out, ended := r.replay(ctx); ended {
			return out
		}
	} else if !r.derived {
		existing, err := r.lookupResult(ctx)
		if err != nil {
			return Outcome{Action: Undecided}
		}
		if existing != nil {
			return r.existing(ctx, existing)
		}
	}
	return r.execute(ctx, nil)
}

// once returns what the execution of this delivery leaves on record.
func (r *run) once() *once {
	r.body = []byte(noAnswer)
	return &once{start: r.entry(db.StatusStarted), end: r.recordOutcome}
}

// recordOutcome is called when the statement has ended, while its session still has the job's lock. The end is kept: where it
// cannot be written now, it is written later.
func (r *run) recordOutcome(ctx context.Context, a answer, err error) *db.Entry {
	crash.At("after_statement")
	t := &knownOutcome{status: Succeeded}
	if err != nil {
		t.status, t.err = r.classifyOutcome(ctx, err)
	}
	t.status, t.err = r.compose(t.status, t.err, a)
	t.row = r.entry(t.status)
	r.d.told = t
	return t.row
}

// classifyOutcome says what the error of a statement means that the server answered, or told to stop.
func (r *run) classifyOutcome(ctx context.Context, err error) (Status, *ResultError) {
	e, ok := errors.AsType[*db.Error](err)
	switch {
	case !ok:
		return Failed, internalError()
	case e.Class == db.ClassTookEffect:
		return Succeeded, resultError(e)
	case e.Class == db.ClassCanceled && r.canceled():
		return Canceled, haltedError(e, true)
	case e.Class == db.ClassCanceled && ctx.Err() != nil:
		return Failed, haltedError(e, false)
	default:
		return Failed, resultError(e)
	}
}

// onceExecuted decides what came of an execution at most once.
func (r *run) onceExecuted(ctx context.Context, err error) Outcome {
	class := db.ClassOf(err)
	switch {
	case class == db.ClassLocked:
		return Outcome{Action: Undecided} // asked again after a pause
	case class == db.ClassAlreadyRecorded, class == db.ClassUnknown && r.d.told == nil:
		return r.onRecord(ctx)
	case r.d.told == nil:
		return r.failed(ctx, err, answer{}) // it was not begun
	case class == db.ClassUnknown:
		return r.conclude(ctx)
	}
	crash.At("after_commit")
	return r.settleKnown()
}

// settleKnown settles the end that is on record.
func (r *run) settleKnown() Outcome {
	t := r.d.told
	r.body = t.row.Answer
	out := r.settle(t.status, t.err)
	out.ended.row = t.row
	return out
}

// onRecord answers by the row that is there. Without one nothing was begun, but it may be on its way: a repetition finds
// out.
func (r *run) onRecord(ctx context.Context) Outcome {
	row, err := r.lookup(ctx)
	if err != nil {
		return r.hold(ctx, err)
	}
	if row == nil {
		return Outcome{Action: Undecided}
	}
	return r.recorded(ctx, row)
}

// conclude writes the end of this delivery's own execution over the row of its begin. The first writer wins: another
// runner may have found the job's lock free meanwhile.
func (r *run) conclude(ctx context.Context) Outcome {
	t := r.d.told
	row, written, err := r.writeEnd(ctx, t.row, true)
	switch {
	case err != nil:
		return r.hold(ctx, err)
	case written, row == nil, bytes.Equal(row.Answer, t.row.Answer):
		return r.settleKnown()
	}
	return r.recorded(ctx, row)
}

// unfinished decides about a row that says that its job was begun, and not how it ended. While a session holds the job's
// lock the execution goes on, and the job waits; otherwise its outcome cannot be known, which is its end from now on.
func (r *run) unfinished(ctx context.Context, row *db.Entry) Outcome {
	end := *row
	end.Status, end.Runner, end.Answer = string(Unknown), r.e.opts.Runner, r.unknownOf(row)
	after, written, err := r.writeEnd(ctx, &end, false)
	switch {
	case err != nil:
		return r.hold(ctx, err)
	case after == nil || after.Status == db.StatusStarted:
		return Outcome{Action: Undecided}
	case !written || !after.SameMessage(r.d.Sequence, r.d.Timestamp):
		return r.recorded(ctx, after)
	}
	r.body = end.Answer
	out := r.settle(Unknown, unknownError())
	out.ended.row = after
	return out
}

// unknownOf is the result of the job that a row was begun for: it may be another message's with the same request.
func (r *run) unknownOf(row *db.Entry) []byte {
	res := Result{
		JobID: row.JobID, Kind: r.d.Kind, Database: r.d.Database, Effect: AtMostOnce, Status: Unknown,
		Hash: row.RequestHash, Sequence: row.Sequence, Runner: r.e.opts.Runner, QueuedAt: row.Timestamp,
		FinishedAt: time.Now(), Error: unknownError(),
	}
	if row.SameMessage(r.d.Sequence, r.d.Timestamp) {
		res.Deliveries, res.Attempts, res.StartedAt, res.Labels = r.d.Deliveries, r.d.attempts, r.d.startedAt, r.labels
	}
	return res.Append(nil)
}

// writeEnd is db.Database's Conclude, repeated while that helps.
func (r *run) writeEnd(ctx context.Context, end *db.Entry, own bool) (row *db.Entry, written bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	err = db.Retry(ctx, r.retryOptions(), retryableLedger, func(ctx context.Context) error {
		var err error
		row, written, err = r.e.opts.Database.RecordEnd(ctx, end, own)
		return err
	})
	return row, written, err
}
