package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// The bounds of the small calls around a job: reading a stored result, reading or writing a ledger row. When one
// passes, nothing is decided: the call is repeated or the job waits.
const (
	lookupTimeout = 3 * time.Second
	ledgerTimeout = 20 * time.Second
	lookupPause   = 250 * time.Millisecond
)

// earlier is what was read about earlier deliveries and other messages of a job. The zero value: nothing yet.
type earlier struct {
	result   []byte // the stored result
	resultOf owner

	row      *db.Entry
	rowOf    owner
	recorded *contract.Head // of the row's answer; nil if it is none
	taken    bool           // see facts
	freed    bool           // see facts
}

// verdict is how the job is to be finished without another execution; the zero value: it may be executed.
type verdict struct {
	cause  cause
	status contract.Status
	err    *contract.Error
}

// decide gathers facts, asks what they mean and does it, until the delivery has an outcome.
func (r *run) decide(ctx context.Context) Outcome {
	for {
		f := r.facts()
		if out, done := r.act(ctx, f.meaning()); done {
			return out
		}
	}
}

// facts gathers what is known.
func (r *run) facts() facts {
	f := facts{
		effect: r.promised(), ledgered: r.ledgered(), redelivered: r.d.MaybeRedelivered, derived: r.derived,
		replyOnly: r.job != nil && r.job.ReplyOnly,
		stored:    r.found.resultOf, row: r.found.rowOf, taken: r.found.taken, freed: r.found.freed, ordered: r.d.Ordered,
		known: r.d.known != nil && r.verdict.cause == mayRun,
	}
	if !f.known && !f.replyOnly && r.verdict.cause == mayRun {
		if why := r.preempted(); why != nil {
			r.verdict = r.preemptedVerdict(why)
		}
	}
	f.cause = r.verdict.cause
	if row := r.found.row; row != nil {
		f.started = row.Status == db.StatusStarted
		f.refused = r.found.recorded != nil && r.found.recorded.ErrorCode == contract.ReasonJobIDReused
	}
	return f
}

// act does a step. false: it has added to the facts.
func (r *run) act(ctx context.Context, s step) (Outcome, bool) {
	if s.finishes() && r.d.MayFinish != nil && r.d.attempts == 0 && r.d.MayFinish(ctx) != nil {
		return Outcome{Action: Undecided}, true
	}
	switch s {
	case execute:
		return r.execute(ctx)
	case finish:
		return r.finish(ctx, r.verdict.status, r.verdict.err, jobs.Answer{})
	case readResult:
		err := r.readResult(ctx)
		return Outcome{Action: Undecided}, err != nil
	case readRow:
		row, err := r.lookup(ctx)
		if err != nil {
			return r.hold(ctx, err), true
		}
		r.sawRow(row)
		return Outcome{}, false
	case recordOwn:
		return r.recordOwn(ctx)
	case recordUnknown:
		return r.recordUnknown(ctx)
	case refuse:
		return r.refuse(ctx)
	case reject:
		return r.rejectReusedID(), true
	case replayResult:
		return r.replay(r.found.result, r.found.resultOf == ours), true
	case replayRow:
		return r.replayRecorded(ctx), true
	case storeUnderDerived:
		return r.storeUnderDerivedID(r.found.row.Answer), true
	case finishOvertaken:
		return r.overtaken(ctx), true
	case awaitRow:
		return r.awaitRow(), true
	default:
		panic(fmt.Sprintf("a delivery means %d", s))
	}
}

// finish finishes the job, on record first: if it may have a ledger row, one with this status is inserted before anything is
// published, because a redelivery could succeed after a failure was. If there is a row already, that row is the answer; if
// the database does not answer, the job waits.
func (r *run) finish(ctx context.Context, status contract.Status, e *contract.Error, a jobs.Answer) (Outcome, bool) {
	c := r.complete(status, e, a)
	if f := r.facts(); !f.recordsFirst() {
		return r.outcome(c), true
	}
	row, inserted, err := r.record(ctx, c)
	switch {
	case err != nil:
		return r.hold(ctx, err), true
	case !inserted:
		return sawRowInTheWay(r, row)
	}
	return r.outcome(c.provenBy(row)), true
}

// sawRowInTheWay notes a row that is there instead of this delivery's. false: it is among the facts.
func sawRowInTheWay(r *run, row *db.Entry) (Outcome, bool) {
	stays := r.superseding && isOld(r, row) // it was to be written over
	r.found = earlier{}
	r.sawRow(row)
	return Outcome{Action: Undecided}, stays
}

// refuse records that the id has the result of another job, which left no ledger row.
func (r *run) refuse(ctx context.Context) (Outcome, bool) {
	row, inserted, err := r.record(ctx, r.complete(contract.Rejected, reusedError(r.id), jobs.Answer{}))
	switch {
	case err != nil:
		return r.hold(ctx, err), true
	case inserted:
		return r.rejectReusedID(), true
	case r.superseding && isOld(r, row):
		return Outcome{Action: Undecided}, true
	}
	r.sawRow(row)
	return Outcome{}, false
}

// awaitRow runs the job again: the row that was in the way was deleted meanwhile, or is not there yet. Or the job's own
// statements refuse its row in these words, each time.
func (r *run) awaitRow() Outcome {
	if r.effect == contract.AtMostOnce {
		return Outcome{Action: Undecided}
	}
	e := db.Errorf(db.ClassAlreadyRecorded, contract.CodeUnique, "the ledger rejected the job's row as a duplicate, but has no such row")
	r.d.suspicion = e
	return Outcome{Action: AwaitDatabase, Reason: e, MayBeCause: true}
}

// readResult reads the stored result of the job's id: from where it is certain if this delivery is in doubt, else for less.
func (r *run) readResult(ctx context.Context) error {
	read := r.lookupResult
	if r.d.MaybeRedelivered || r.verdict.cause > preempted {
		read = r.storedResult
	}
	existing, err := read(ctx)
	if err == nil {
		r.sawResult(existing)
	}
	return err
}

// lookupResult looks for a result that another message has left under the job's id. It may miss one that was stored in this
// moment: storing our own finds it then. What it finds is read from where it is certain.
func (r *run) lookupResult(ctx context.Context) ([]byte, error) {
	found, err := r.e.opts.Results.HasResult(ctx, r.id)
	if err == nil && !found {
		return nil, nil
	}
	return r.storedResult(ctx)
}

// sawResult notes what is stored under the job's id.
func (r *run) sawResult(existing []byte) {
	r.found.result, r.found.resultOf = existing, absent
	if existing == nil {
		return
	}
	head, err := contract.ReadHead(existing)
	if err != nil {
		r.found.resultOf = foreign
		return
	}
	r.found.resultOf = r.ownerOf(head.SameMessage(r.d.Sequence, r.d.Timestamp), head.Hash)
}

// sawRow notes the ledger row with the job's id; nil: there is none.
func (r *run) sawRow(row *db.Entry) {
	r.found.row, r.found.rowOf, r.found.recorded = row, absent, nil
	if isOld(r, row) {
		// The id is free again. A fence that had this row in its way although it was to write over it is not asked again immediately.
		r.found.taken = r.found.taken && r.superseding
		r.found.row, r.found.freed, r.superseding, r.d.supersedes = nil, true, true, freeBefore(r)
		return
	}
	if row == nil {
		return
	}
	r.found.rowOf = r.ownerOf(row.SameMessage(r.d.Sequence, r.d.Timestamp), row.RequestHash)
	if head, err := contract.ReadHead(row.Answer); err == nil {
		r.found.recorded = &head
	}
}

// isOld reports whether a row, nil if there is none, is no answer any more: it was recorded longer than the retention before this
// message was stored, so that the job's id is free again. The cleanup would have deleted it, had it come by. It deletes no other
// row as long as the message is there, so that no delivery of it sees otherwise.
func isOld(r *run, row *db.Entry) bool {
	return row != nil && r.e.opts.Policy.Retention > 0 && row.RecordedAt.Before(freeBefore(r))
}

// freeBefore is the time before which a ledger row was recorded that is no answer to this message. All engines keep microseconds.
func freeBefore(r *run) time.Time {
	return r.d.Timestamp.Add(-r.e.opts.Policy.Retention).Truncate(time.Microsecond)
}

func (r *run) ownerOf(sameMessage bool, hash []byte) owner {
	switch {
	case sameMessage:
		return ours
	case r.sameRequest(hash):
		return duplicate
	default:
		return foreign
	}
}

// ledgered reports whether the job can have a ledger row: it says so, or its effect is not known.
func (r *run) ledgered() bool {
	return r.e.opts.Policy.Ledger && (r.promised().Fenced() || r.effect == "")
}

// promised is the effect that decides what a delivery means. The definition of a call is of one runner's files: where it is not
// known, or another runner may have run the job by another one, the job counts as one that the ledger fences.
func (r *run) promised() contract.Effect {
	if r.d.Ordered || r.call != nil && r.effect != contract.RolledBack && (r.effect == "" || r.d.MaybeRedelivered) {
		return contract.ExactlyOnce
	}
	return r.effect
}

func (r *run) sameRequest(hash []byte) bool {
	return len(r.hash) > 0 && string(r.hash) == string(hash)
}

// record is db.Database's Record of a completion, repeated while that helps.
func (r *run) record(ctx context.Context, c completion) (row *db.Entry, inserted bool, err error) {
	entry := r.entry(c.status, c.body)
	err = r.ledger(ctx, func(ctx context.Context) error {
		row, inserted, err = r.e.opts.Database.Record(ctx, entry)
		return err
	})
	return row, inserted, err
}

func (r *run) lookup(ctx context.Context) (row *db.Entry, err error) {
	err = r.ledger(ctx, func(ctx context.Context) error {
		row, err = r.e.opts.Database.Lookup(ctx, r.id)
		return err
	})
	return row, err
}

// ledger makes a call of the ledger, repeated while that helps.
func (r *run) ledger(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	return retry(ctx, r.e.opts.Policy.Retry, retryableLedger, call)
}

func retryableLedger(err error) bool {
	switch db.ClassOf(err) {
	case db.ClassTransient, db.ClassLost, db.ClassUnknown, db.ClassTimeout:
		return true
	default:
		return false
	}
}

// hold keeps the job until the database answers again, unless the work is no longer wanted. A ledger row that
// another transaction keeps locked is this job's matter alone: it is tried again while the others run.
func (r *run) hold(ctx context.Context, err error) Outcome {
	class := db.ClassOf(err)
	switch {
	case ctx.Err() != nil:
		return Outcome{Action: Undecided}
	case class == db.ClassTransient, class == db.ClassTimeout:
		return Outcome{Action: Undecided, Reason: err}
	}
	return Outcome{Action: AwaitDatabase, Reason: err}
}

// storedResult reads the stored result of the job's id, as long as the context lives.
func (r *run) storedResult(ctx context.Context) ([]byte, error) { return r.storedResultOf(ctx, r.id) }

func (r *run) storedResultOf(ctx context.Context, id string) ([]byte, error) {
	for {
		existing, err := readStored(ctx, r.e.opts.Results, id)
		if err == nil {
			return existing, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(lookupPause):
		}
	}
}

func readStored(ctx context.Context, results ResultReader, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return results.StoredResult(ctx, id)
}

// preemptedVerdict is of a job that is cancelled or expired. What may have had an effect that nothing on record proves is
// unknown.
func (r *run) preemptedVerdict(why error) verdict {
	switch {
	case r.effect == contract.AtLeastOnce && r.mayHaveTakenEffect():
		return verdict{preempted, contract.Unknown, unknownError()}
	case errors.Is(why, errCanceled):
		return verdict{preempted, contract.Canceled, canceledError()}
	default:
		return verdict{preempted, contract.Expired, expiredError()}
	}
}

// undeliverableVerdict is of a job that was delivered too often.
func (r *run) undeliverableVerdict() verdict {
	e := tooManyDeliveriesError(r.d.Deliveries)
	switch {
	case !r.promised().Fenced() && r.effect.MayChange():
		return verdict{undeliverable, contract.Unknown, e}
	case r.canceled():
		return verdict{undeliverable, contract.Canceled, canceledError()}
	default:
		return verdict{undeliverable, contract.Failed, e}
	}
}

// invalidVerdict is of a job that cannot be understood or is not allowed.
func invalidVerdict(rej *jobs.Rejection) verdict {
	v := verdict{invalid, contract.Rejected, rej.ResultError()}
	if rej.Final() {
		v.cause = invalidEverywhere
	}
	return v
}

// failedVerdict is of an execution that failed; doubt: its effect may have happened all the same, and nothing proves it.
func (r *run) failedVerdict(e *db.Error) verdict {
	if r.effect == contract.AtLeastOnce && r.d.sawUnknown {
		return verdict{failed, contract.Unknown, unknownError()}
	}
	return verdict{failed, contract.Failed, resultError(e)}
}

// defectVerdict is of a delivery at which the runner's own code failed.
func (r *run) defectVerdict() verdict {
	if r.effect == contract.AtLeastOnce {
		return verdict{failed, contract.Unknown, internalError()}
	}
	return verdict{failed, contract.Failed, internalError()}
}
