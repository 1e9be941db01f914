package jobs

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// conflictContext is what is known of a job's end when its result meets a taken subject.
type conflictContext struct {
	run  *run
	key  string    // under which the result is to be stored
	row  *db.Entry // the ledger row that proves the end, nil if there is none
	body []byte    // the result
}

// end encodes a result of this delivery and settles it.
func (r *run) end(status Status, e *ResultError) Outcome {
	return r.endWith(status, e, answer{})
}

// settle makes the outcome of an ended job out of the body that was encoded last.
func (r *run) settle(status Status, e *ResultError) Outcome {
	out := Outcome{Action: Settle, Status: status, JobID: r.id, body: r.body, from: &r.e.bodies}
	if e != nil {
		out.Code = string(e.Code)
	}
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: r.body}
	}
	if r.job == nil || !r.job.ReplyOnly {
		out.Store = &Publication{Key: r.id, Body: r.body}
		out.ended = &conflictContext{run: r, key: r.id, body: r.body}
	}
	out.DeadLetter = r.letter(status, e)
	return out
}

// replayOwn answers with the stored result of this very message: the job has ended before.
func (r *run) replayOwn(head ResultHead, existing []byte) Outcome {
	out := Outcome{Action: Settle, Status: head.Status, JobID: r.id, Code: head.ErrorCode, Duplicate: true}
	r.replyWith(&out, existing)
	out.DeadLetter = r.letterFor(head.Status, head.ErrorCode, "")
	return out
}

// replayDuplicate answers with the stored result of an earlier message with the same request.
func (r *run) replayDuplicate(existing []byte) Outcome {
	out := Outcome{Action: Settle, JobID: r.id, Duplicate: true}
	if head, err := ReadResult(existing); err == nil {
		out.Status, out.Code = head.Status, head.ErrorCode
	}
	r.replyWith(&out, existing)
	return out
}

func (r *run) replyWith(out *Outcome, existing []byte) {
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: MarkDuplicate(existing)}
	}
}

// rejectReusedID ends a job whose id belongs to another request: nothing takes effect, the stored result stays.
func (r *run) rejectReusedID() Outcome {
	e := reusedError(r.id)
	r.body = r.result(Rejected, e)
	out := Outcome{Action: Settle, Status: Rejected, JobID: r.id, Code: string(e.Code)}
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: r.body}
	}
	out.DeadLetter = r.newLetter(ReasonJobIDReused, "", e)
	return out
}

// storeUnderDerivedID stores the answer of an effect that happened under the message's derived id, because the job's own id
// has a result of another message. Reply and dead letter name it.
func (r *run) storeUnderDerivedID(answer []byte) Outcome {
	derived := contract.DerivedID(r.d.Sequence, r.d.Timestamp)
	e := resultTakenError(r.id, derived)
	out := Outcome{Action: Settle, JobID: r.id, Code: string(CodeResultTaken)}
	if head, err := ReadResult(answer); err == nil {
		out.Status = head.Status
	}
	r.body = r.dropOversizedRows(withError(answer, e), out.Status)
	out.Store = &Publication{Key: derived, Body: r.body}
	out.ended = &conflictContext{run: r, key: derived, body: r.body}
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: r.body}
	}
	out.DeadLetter = r.newLetter(ReasonResultIDTaken, derived, e)
	return out
}

// Taken says how to go on when the outcome's result met a subject that has a stored result already. The outcome
// that it returns replaces out: its Store is nil, or a publication under the message's derived id.
func (e *Executor) Taken(_ context.Context, _ *Delivery, out Outcome, existing []byte) Outcome {
	next := taken(out, existing)
	next.Recorded = out.Recorded
	return next
}

func taken(out Outcome, existing []byte) Outcome {
	end := out.ended
	r := end.run
	head, err := ReadResult(existing)
	if err == nil && head.SameMessage(r.d.Sequence, r.d.Timestamp) {
		next := r.replayOwn(head, existing)
		next.Duplicate = out.Duplicate
		if next.Status == out.Status && next.Code == out.Code {
			next.DeadLetter = out.DeadLetter // it says more; of another end it would not be true
		}
		return next
	}
	if end.key != r.id { // a stranger's result under a derived id: nothing better can be done than to answer
		out.Store = nil
		return out
	}
	if end.row != nil {
		return r.takenRecorded(end, head, existing)
	}
	if err == nil && r.sameRequest(head.Hash) {
		return r.replayDuplicate(existing)
	}
	if r.effect == AtLeastOnce && out.Status != Rejected && r.d.MaybeRedelivered { // this or an earlier delivery began
		return r.storeUnderDerivedID(end.body)
	}
	return r.rejectReusedID()
}

// takenRecorded goes on where the ledger proves the end: with our own row the answer goes aside; with a row of an
// earlier message of the same request the stored result is its answer.
func (r *run) takenRecorded(end *conflictContext, head ResultHead, existing []byte) Outcome {
	if end.row.SameMessage(r.d.Sequence, r.d.Timestamp) {
		return r.storeUnderDerivedID(end.row.Answer)
	}
	if head.Sequence == end.row.Sequence && head.QueuedAt.Equal(end.row.Timestamp) {
		return r.replayDuplicate(existing)
	}
	return r.replayDuplicate(end.row.Answer)
}

// withError adds an error to an encoded result that has none; one that has an error keeps it.
func withError(body []byte, e *ResultError) []byte {
	head, err := ReadResult(body)
	if err != nil || head.ErrorCode != "" {
		return body
	}
	out := append(make([]byte, 0, len(body)+512), body[:len(body)-1]...)
	return append(e.append(append(out, `,"error":`...)), '}')
}
