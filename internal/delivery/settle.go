package delivery

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/jobs"
)

// replay answers with a result that is there already: this message's own, or an earlier message's with the same request,
// whose own settling has left its dead letter.
func (r *run) replay(result []byte, own bool) Outcome {
	out := Outcome{Action: Settle, JobID: r.id, Duplicate: true}
	if head, err := contract.ReadHead(result); err == nil {
		out.Status, out.Code = head.Status, head.ErrorCode
	}
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: contract.MarkDuplicate(result)}
	}
	if own {
		out.DeadLetter = r.deadLetter(r.reasonOf(out.Status, out.Code), r.id, out.Code, "")
	}
	return out
}

// replayRecorded answers with the ledger row: this message's own, or an earlier message's with the same request.
func (r *run) replayRecorded(ctx context.Context) Outcome {
	row, own := r.found.row, r.found.rowOf == ours
	head := contract.Head{Status: contract.Status(row.Status)}
	if r.found.recorded != nil {
		head = *r.found.recorded
	}
	body := contract.MarkDuplicate(r.dropOversizedRows(contract.MarkDuplicate(r.e.markExpired(ctx, row.Answer)), head.Status))
	out := r.outcome(newCompletion(r.id, head.Status, nil, body, row))
	out.Code, out.Duplicate, out.Recorded = head.ErrorCode, !own, true
	if own {
		out.DeadLetter = r.deadLetter(r.reasonOf(head.Status, head.ErrorCode), r.id, head.ErrorCode, "")
	}
	return out
}

// dropOversizedRows returns an answer from the ledger, or one without its rows where the stream takes no message of its size
// any more: the server's largest payload was lowered since. It would be offered again indefinitely.
func (r *run) dropOversizedRows(recorded []byte, status contract.Status) []byte {
	if limit := r.e.opts.MaxResult; len(recorded) > limit {
		return r.complete(status, lostRowsError(len(recorded), limit), jobs.Answer{}).body
	}
	return recorded
}

// rejectReusedID rejects a job whose id belongs to another request: nothing takes effect, the stored result stays.
func (r *run) rejectReusedID() Outcome {
	e := reusedError(r.id)
	out := r.outcome(r.complete(contract.Rejected, e, jobs.Answer{}))
	out.Store = nil
	out.DeadLetter = r.deadLetter(contract.ReasonJobIDReused, "", string(e.Code), e.Message)
	return out
}

// storeUnderDerivedID stores the answer of an effect that happened under the message's derived id, because the job's own id
// has a result of another message. Reply and dead letter name it.
func (r *run) storeUnderDerivedID(result []byte) Outcome {
	derived := r.d.DerivedID()
	e := resultTakenError(r.id, derived)
	var status contract.Status
	if head, err := contract.ReadHead(result); err == nil {
		status = head.Status
	}
	out := r.outcome(newCompletion(derived, status, nil, r.dropOversizedRows(contract.AddError(result, e), status), nil))
	out.Code = string(e.Code)
	out.DeadLetter = r.deadLetter(contract.ReasonResultIDTaken, derived, out.Code, e.Message)
	return out
}

// overtaken finishes a redelivered at_least_once job whose id has another job's result: an earlier delivery may have
// had its effect before that result was stored, and has then left its answer under the derived id, or died.
func (r *run) overtaken(ctx context.Context) Outcome {
	derived := r.d.DerivedID()
	existing, err := r.storedResultOf(ctx, derived)
	if err != nil {
		return Outcome{Action: Undecided}
	}
	if existing != nil {
		if head, err := contract.ReadHead(existing); err == nil && head.SameMessage(r.d.Sequence, r.d.Timestamp) {
			return r.replay(existing, true)
		}
	}
	c := r.complete(contract.Unknown, unknownError(), jobs.Answer{})
	return r.outcome(newCompletion(derived, c.status, c.err, c.body, nil))
}

// Taken decides how to go on when the outcome's result met a subject that has a stored result already. The outcome
// that it returns replaces out: its Store is nil, or a publication under the message's derived id.
func (e *Executor) Taken(_ context.Context, _ *Delivery, out Outcome, existing []byte) Outcome {
	next := taken(out, existing)
	next.Recorded = out.Recorded
	return next
}

func taken(out Outcome, existing []byte) Outcome {
	r, c := out.run, out.completion
	head, err := contract.ReadHead(existing)
	switch {
	case err == nil && head.SameMessage(r.d.Sequence, r.d.Timestamp):
		next := r.replay(existing, true)
		next.Duplicate = out.Duplicate
		if next.Status == out.Status && next.Code == out.Code {
			next.DeadLetter = out.DeadLetter // it says more; for another status it would not be true
		}
		return next
	case c.key != r.id: // another job's result under a derived id: nothing better can be done than to answer
		out.Store = nil
		return out
	case c.row != nil && c.row.SameMessage(r.d.Sequence, r.d.Timestamp):
		return r.storeUnderDerivedID(c.row.Answer)
	case c.row != nil && head.Sequence == c.row.Sequence && head.QueuedAt.Equal(c.row.Timestamp):
		return r.replay(existing, false)
	case c.row != nil:
		return r.replay(c.row.Answer, false)
	case err == nil && r.sameRequest(head.Hash):
		return r.replay(existing, false)
	case r.effect == contract.AtLeastOnce && out.Status != contract.Rejected && r.d.MaybeRedelivered: // this or an earlier delivery started it
		return r.storeUnderDerivedID(c.body)
	}
	return r.rejectReusedID()
}

// markExpired marks an answer from the ledger whose rows are gone.
func (e *Executor) markExpired(ctx context.Context, body []byte) []byte {
	if e.opts.Objects == nil {
		return body
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	for _, o := range contract.RowsObjects(body) {
		complete, err := e.opts.Objects.Complete(ctx, o.Name)
		if err != nil || complete {
			continue
		}
		return contract.MarkExpired(body)
	}
	return body
}
