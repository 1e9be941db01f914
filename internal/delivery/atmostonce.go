package delivery

import (
	"bytes"
	"context"
	"errors"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// noAnswer stands in the row of a job that started. It is never read.
const noAnswer = "{}"

// once returns what the execution of this delivery leaves on record.
func (r *run) once() *jobs.Once {
	return &jobs.Once{Start: r.entry(db.StatusStarted, []byte(noAnswer)), End: r.recordOutcome}
}

// recordOutcome is called when the statement has finished, while its session still has the job's lock. The outcome is kept:
// where it cannot be written now, it is written later.
func (r *run) recordOutcome(ctx context.Context, a jobs.Answer, err error) *db.Entry {
	crash.At("after_statement")
	status, e := contract.Succeeded, (*contract.Error)(nil)
	if err != nil {
		status, e = r.classifyOutcome(ctx, err)
	}
	c := r.complete(status, e, a)
	row := r.entry(c.status, c.body)
	row.Supersedes = time.Time{} // the row of the start has
	c = c.provenBy(row)
	r.d.known = &c
	return c.row
}

// classifyOutcome classifies the error of a statement that the server answered, or stopped.
func (r *run) classifyOutcome(ctx context.Context, err error) (contract.Status, *contract.Error) {
	e, ok := errors.AsType[*db.Error](err)
	switch {
	case !ok:
		return contract.Failed, internalError()
	case e.Class == db.ClassTookEffect:
		return contract.Succeeded, resultError(e)
	case e.Class == db.ClassCanceled && r.canceled():
		return contract.Canceled, haltedError(e, true)
	case e.Class == db.ClassCanceled && ctx.Err() != nil:
		return contract.Failed, haltedError(e, false)
	default:
		return contract.Failed, resultError(e)
	}
}

// onceExecuted decides what an execution at most once came to. false: it has added to the facts.
func (r *run) onceExecuted(ctx context.Context, err error) (Outcome, bool) {
	class, known := db.ClassOf(err), r.d.known
	switch {
	case class == db.ClassLocked:
		return Outcome{Action: Undecided}, true // asked again after a pause
	case class == db.ClassAlreadyRecorded, class == db.ClassUnknown && known == nil:
		r.found = earlier{taken: true} // without a row nothing was started, but it may be on its way: a repetition finds out
		return Outcome{}, false
	case known == nil:
		return r.failed(ctx, err, jobs.Answer{}) // it was not started
	case class == db.ClassUnknown:
		return Outcome{}, false
	}
	crash.At("after_commit")
	return r.outcome(*known), true
}

// recordOwn writes the outcome of this delivery's own execution over the row of its start. The first writer wins: another
// runner may have found the job's lock free meanwhile. false: it has, and the row is among the facts.
func (r *run) recordOwn(ctx context.Context) (Outcome, bool) {
	known := r.d.known
	row, written, err := r.writeEnd(ctx, known.row, true)
	switch {
	case err != nil:
		return r.hold(ctx, err), true
	case written, row == nil, bytes.Equal(row.Answer, known.row.Answer):
		return r.outcome(*known), true
	}
	r.found = earlier{}
	r.sawRow(row)
	return Outcome{}, false
}

// recordUnknown decides about a row whose job started and has no outcome on record. While a session holds the job's
// lock the execution goes on, and the job waits; otherwise its outcome cannot be known, and that is its outcome from now on.
// false: another outcome was written first, and is among the facts.
func (r *run) recordUnknown(ctx context.Context) (Outcome, bool) {
	end := *r.found.row
	end.Status, end.Runner, end.Answer = string(contract.Unknown), r.e.opts.Runner, r.unknownOf(r.found.row)
	after, written, err := r.writeEnd(ctx, &end, false)
	switch {
	case err != nil:
		return r.hold(ctx, err), true
	case after == nil || after.Status == db.StatusStarted:
		return Outcome{Action: Undecided}, true
	case !written || !after.SameMessage(r.d.Sequence, r.d.Timestamp):
		r.found = earlier{}
		r.sawRow(after)
		return Outcome{}, false
	}
	return r.outcome(newCompletion(r.id, contract.Unknown, unknownError(), end.Answer, after)), true
}

// unknownOf is the result of the job whose start a row records: it may be another message's with the same request.
func (r *run) unknownOf(row *db.Entry) []byte {
	res := contract.Result{
		JobID: row.JobID, Kind: r.d.Kind, Database: r.d.Database, Effect: contract.AtMostOnce, Status: contract.Unknown,
		Hash: row.RequestHash, Sequence: row.Sequence, Runner: r.e.opts.Runner, QueuedAt: row.Timestamp,
		FinishedAt: time.Now(), Error: unknownError(),
	}
	if row.SameMessage(r.d.Sequence, r.d.Timestamp) {
		res.Deliveries, res.Attempts, res.StartedAt, res.Labels = r.d.Deliveries, r.d.attempts, r.d.startedAt, r.labels
	}
	return res.Append(nil)
}

// writeEnd is db.Database's RecordEnd, repeated while that helps.
func (r *run) writeEnd(ctx context.Context, end *db.Entry, own bool) (row *db.Entry, written bool, err error) {
	err = r.ledger(ctx, func(ctx context.Context) error {
		row, written, err = r.e.opts.Database.RecordEnd(ctx, end, own)
		return err
	})
	return row, written, err
}
