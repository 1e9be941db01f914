package jobs

import (
	"context"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
)

// The bounds of the small calls around a job: reading a stored result, reading or writing a ledger row. When one
// passes, nothing is decided: the call is repeated or the job waits.
const (
	lookupTimeout = 3 * time.Second
	ledgerTimeout = 20 * time.Second
	lookupPause   = 250 * time.Millisecond
)

// replay looks for an earlier end of a job whose delivery is in doubt: first the stored result, then the ledger.
func (r *run) replay(ctx context.Context) (Outcome, bool) {
	existing, err := r.storedResult(ctx)
	if err != nil {
		return Outcome{Action: Undecided}, true
	}
	if existing != nil {
		return r.existing(ctx, existing), true
	}
	row, err := r.lookup(ctx)
	if err != nil {
		return r.hold(ctx, err), true
	}
	if row != nil {
		return r.recorded(ctx, row), true
	}
	return Outcome{}, false
}

// existing decides what a stored result under the job's id means. Only one of the same message ends the matter;
// for one of another message the ledger is asked first, because our effect may have happened all the same.
func (r *run) existing(ctx context.Context, existing []byte) Outcome {
	head, err := ReadResult(existing)
	if err == nil && head.SameMessage(r.d.Sequence, r.d.Timestamp) {
		return r.replayOwn(head, existing)
	}
	var row *db.Entry
	if r.ledgered() {
		found, err := r.lookup(ctx)
		if err != nil {
			return r.hold(ctx, err)
		}
		if found != nil && found.SameMessage(r.d.Sequence, r.d.Timestamp) {
			return r.displaced(ctx, found)
		}
		row = found
	}
	switch {
	case err == nil && r.sameRequest(head.Hash):
		return r.replayDuplicate(existing)
	case r.effect == AtLeastOnce && r.d.MaybeRedelivered:
		return r.overtaken(ctx)
	case r.ledgered() && row == nil:
		return r.refuse(ctx)
	}
	return r.rejectReusedID()
}

// displaced goes on with a row of this very message, whose id has another job's result.
func (r *run) displaced(ctx context.Context, row *db.Entry) Outcome {
	if row.Status == db.StatusStarted {
		return r.unfinished(ctx, row)
	}
	if head, err := ReadResult(row.Answer); err == nil && head.ErrorCode == ReasonJobIDReused {
		return r.rejectReusedID()
	}
	return r.storeUnderDerivedID(row.Answer)
}

// refuse ends a job whose id has the result of another one that left no ledger row. That there is no row of ours either
// proves nothing: the COMMIT of an earlier delivery may be under way. So the refusal is recorded before it is told; either
// it finds our row, or that COMMIT finds the key taken.
func (r *run) refuse(ctx context.Context) Outcome {
	row, inserted, err := r.record(ctx, Rejected, reusedError(r.id))
	switch {
	case err != nil:
		return r.hold(ctx, err)
	case !inserted && row.SameMessage(r.d.Sequence, r.d.Timestamp):
		return r.displaced(ctx, row)
	}
	return r.rejectReusedID()
}

// overtaken ends a redelivered at_least_once job whose id has another job's result: an earlier delivery may have
// had its effect before that result was stored, and has then left its answer under the derived id, or died.
func (r *run) overtaken(ctx context.Context) Outcome {
	derived := contract.DerivedID(r.d.Sequence, r.d.Timestamp)
	existing, err := r.storedResultOf(ctx, derived)
	if err != nil {
		return Outcome{Action: Undecided}
	}
	if existing != nil {
		if head, err := ReadResult(existing); err == nil && head.SameMessage(r.d.Sequence, r.d.Timestamp) {
			return r.replayOwn(head, existing)
		}
	}
	out := r.end(Unknown, unknownError())
	out.Store.Key = derived
	out.ended.key = derived
	if out.DeadLetter != nil {
		out.DeadLetter.ResultID = derived
	}
	return out
}

// taken decides what a taken ledger key means. It was found by our own insert, so the row is committed.
func (r *run) taken(ctx context.Context) Outcome {
	row, err := r.lookup(ctx)
	if err != nil {
		return r.hold(ctx, err)
	}
	if row == nil { // deleted between the two: run again. Or the job's own doing refuses its row in these words, each time
		e := db.Errorf(db.ClassAlreadyRecorded, db.CodeUnique, "the ledger took no row of this job, as if it had one, and it has none")
		r.d.suspicion = e
		return Outcome{Action: AwaitDatabase, Reason: e, Suspect: true}
	}
	return r.recorded(ctx, row)
}

// recorded decides what a ledger row under the job's key means: our own end, the same request's, or another's.
func (r *run) recorded(ctx context.Context, row *db.Entry) Outcome {
	same := row.SameMessage(r.d.Sequence, r.d.Timestamp)
	if !same && !r.sameRequest(row.RequestHash) {
		return r.rejectReusedID()
	}
	if row.Status == db.StatusStarted {
		return r.unfinished(ctx, row)
	}
	head, err := ReadResult(row.Answer)
	if err != nil {
		head = ResultHead{Status: Status(row.Status)}
	}
	if head.ErrorCode == ReasonJobIDReused {
		return r.rejectReusedID() // of the same request: it was refused before
	}
	r.body = MarkDuplicate(r.dropOversizedRows(MarkDuplicate(r.markExpired(ctx, row.Answer)), head.Status))
	out := r.settle(head.Status, nil)
	out.Code, out.Duplicate, out.Recorded = head.ErrorCode, !same, true
	out.ended.row = row
	if same {
		out.DeadLetter = r.letterFor(head.Status, head.ErrorCode, "")
	} else {
		out.DeadLetter = nil // the first message's own end has left one
	}
	return out
}

// dropOversizedRows returns an answer from the ledger, or one without its rows where the stream takes no message of its size any
// more: the server's largest payload was lowered since. It would be offered again for ever.
func (r *run) dropOversizedRows(recorded []byte, status Status) []byte {
	if limit := r.e.opts.MaxResult; len(recorded) > limit {
		return r.result(status, lostRowsError(len(recorded), limit))
	}
	return recorded
}

// rejected answers a job that cannot be understood or is not allowed. Another runner, of another version or with another
// configuration, may understand it, also at this moment. So a job that may have a ledger row gets one before it is
// rejected: the first writer wins, as with every other end. Only what no runner can accept is rejected immediately.
func (r *run) rejected(ctx context.Context, rej *Rejection) Outcome {
	r.id, r.derived, r.effect, r.hash = rej.ID, rej.DerivedID, rej.Effect, rej.Hash
	r.replyTo, r.labels = rej.ReplyTo, rej.Labels
	e := rejectionError(rej)
	crash.At("after_rejection")
	if !r.d.MaybeRedelivered && (rej.final() || !r.ledgered()) {
		return r.end(Rejected, e)
	}
	existing, err := r.storedResult(ctx)
	if err != nil {
		return Outcome{Action: Undecided}
	}
	if existing != nil {
		return r.existing(ctx, existing)
	}
	if r.ledgered() {
		return r.endRecorded(ctx, Rejected, e)
	}
	return r.end(Rejected, e)
}

// giveUp ends a job that was delivered too often, without decoding it: whatever it does to a runner that decodes
// or runs it, it does not do here.
func (r *run) giveUp(ctx context.Context) Outcome {
	r.scan()
	existing, err := r.storedResult(ctx)
	if err != nil {
		return Outcome{Action: Undecided}
	}
	if existing != nil {
		return r.existing(ctx, existing)
	}
	status, e := Failed, tooManyDeliveriesError(r.d.Deliveries)
	if r.canceled() {
		status, e = Canceled, canceledError()
	}
	switch {
	case r.effect.Fenced():
		return r.endRecorded(ctx, status, e)
	case r.effect == ReadOnly:
		return r.end(status, e)
	case r.ledgered():
		return r.endRecorded(ctx, Unknown, tooManyDeliveriesError(r.d.Deliveries))
	default:
		return r.end(Unknown, tooManyDeliveriesError(r.d.Deliveries))
	}
}

// scan takes over what can be read of a message without decoding it.
func (r *run) scan() {
	s := r.e.decoder.Scan(r.d)
	r.id, r.derived, r.effect, r.replyTo = s.ID, s.DerivedID, s.Effect, s.ReplyTo
}

// scanUndecoded is scan of a message whose decoding panicked: another version may decode it, and run it under its own id.
// The scan may come upon the same defect; then the answer goes under the derived id.
func (r *run) scanUndecoded() {
	defer func() { _ = recover() }()
	if r.job == nil && r.effect == "" {
		r.scan()
	}
}

// defect ends a delivery whose running panicked or ended in a way that it cannot: a defect of ours that must cost
// neither the runner nor the job. What the job's connection had open is rolled back with it.
func (r *run) defect(ctx context.Context) (out Outcome) {
	defer func() {
		if recover() != nil {
			out = Outcome{Action: Undecided}
		}
	}()
	r.scanUndecoded()
	if r.ledgered() {
		return r.endRecorded(ctx, Failed, internalError())
	}
	if r.effect == AtLeastOnce {
		return r.end(Unknown, internalError())
	}
	return r.end(Failed, internalError())
}

// ledgered reports whether the job can have a ledger row: it says so, or its effect is not known.
func (r *run) ledgered() bool {
	return r.e.opts.Policy.Ledger && (r.effect.Fenced() || r.effect == "")
}

func (r *run) sameRequest(hash []byte) bool {
	return len(r.hash) > 0 && string(r.hash) == string(hash)
}

// endRecorded ends the job by inserting its ledger row first. If a row is there already, that row is the answer;
// if the database does not answer, the job waits.
func (r *run) endRecorded(ctx context.Context, status Status, e *ResultError) Outcome {
	row, inserted, err := r.record(ctx, status, e)
	if err != nil {
		return r.hold(ctx, err)
	}
	if !inserted {
		return r.recorded(ctx, row)
	}
	out := r.settle(status, e)
	out.ended.row = row
	return out
}

// record is db.Database's Record of a result that it encodes, repeated while that helps.
func (r *run) record(ctx context.Context, status Status, e *ResultError) (row *db.Entry, inserted bool, err error) {
	r.body = r.result(status, e)
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	err = db.Retry(ctx, r.retryOptions(), retryableLedger, func(ctx context.Context) error {
		var err error
		row, inserted, err = r.e.opts.Database.Record(ctx, r.entry(status))
		return err
	})
	return row, inserted, err
}

func (r *run) lookup(ctx context.Context) (*db.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	var row *db.Entry
	err := db.Retry(ctx, r.retryOptions(), retryableLedger, func(ctx context.Context) error {
		var err error
		row, err = r.e.opts.Database.Lookup(ctx, r.id)
		return err
	})
	return row, err
}

func retryableLedger(err error) bool {
	switch db.ClassOf(err) {
	case db.ClassTransient, db.ClassLost, db.ClassUnknown, db.ClassTimeout:
		return true
	default:
		return false
	}
}

// hold keeps the job until the database answers again, unless nobody wants the work any more. A ledger row that
// another transaction keeps locked is this job's matter alone: it is tried again while the others run.
func (r *run) hold(ctx context.Context, err error) Outcome {
	class := db.ClassOf(err)
	if ctx.Err() != nil || class == db.ClassTransient || class == db.ClassTimeout {
		return Outcome{Action: Undecided}
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
