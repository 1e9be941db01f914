package delivery

import (
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// completion is how a job finished: built whole, never changed, and owned by one Outcome, which releases its body.
type completion struct {
	key    string          // under which the result is stored: the job's id, or the one derived from its message
	status contract.Status // of the job
	err    *contract.Error // nil on success, and for a result that an earlier execution wrote
	body   []byte          // the encoded result
	row    *db.Entry       // the ledger row that proves it; nil if there is none
}

// newCompletion is the only place that builds one.
func newCompletion(key string, status contract.Status, e *contract.Error, body []byte, row *db.Entry) completion {
	return completion{key: key, status: status, err: e, body: body, row: row}
}

// provenBy returns the completion with the ledger row that proves it.
func (c completion) provenBy(row *db.Entry) completion {
	return newCompletion(c.key, c.status, c.err, c.body, row)
}

// release gives the body back: nothing of it may be read any more.
func (c *completion) release(to *db.Buffers) {
	to.Put(c.body)
	*c = completion{}
}

// complete encodes how this delivery's job finished so that one message takes the result: one that does not fit would be
// offered again indefinitely. Where the answer has no room it is left out, and the result says so, as result_too_large; a
// job that only reads has failed then.
func (r *run) complete(status contract.Status, e *contract.Error, a jobs.Answer) completion {
	body, limit := r.encode(status, e, a), r.e.opts.MaxResult
	if have := len(body); have > limit && a.Filled {
		status, e = r.withoutAnswer(status, e, have)
		body = r.encodeAgain(body, status, e)
	}
	for len(body) > limit && e.Shorten() {
		body = r.encodeAgain(body, status, e)
	}
	return newCompletion(r.id, status, e, body, nil)
}

// seal completes a job whose ledger row is committed with its effect. The row has the result as it will be published.
// Whether its id has a stored result is not asked before COMMIT: every job that the ledger fences has a row there, and a
// result of any other job is found when this one is stored.
func (r *run) seal(a jobs.Answer) (c completion, err error) {
	body := r.encode(contract.Succeeded, nil, a)
	if len(body) > r.e.opts.MaxResult {
		return c, tooLargeError(len(body), r.e.opts.MaxResult)
	}
	return newCompletion(r.id, contract.Succeeded, nil, body, r.entry(contract.Succeeded, body)), nil
}

// encode encodes a result of this delivery, whatever its size.
func (r *run) encode(status contract.Status, e *contract.Error, a jobs.Answer) []byte {
	res := contract.Result{
		JobID: r.id, Kind: r.d.Kind, Database: r.d.Database, Effect: r.effect, Status: status,
		Hash: r.hash, Sequence: r.d.Sequence, Deliveries: r.d.Deliveries, Attempts: r.d.attempts,
		Runner: r.e.opts.Runner, QueuedAt: r.d.Timestamp, StartedAt: r.d.startedAt, FinishedAt: time.Now(),
		Labels: r.labels, Call: r.call, Answer: a.Answer, Error: e,
	}
	return res.Append(r.e.bodies.Get(envelopeSize + a.Size))
}

// encodeAgain encodes a result without an answer, in the place of one that does not fit.
func (r *run) encodeAgain(tooLarge []byte, status contract.Status, e *contract.Error) []byte {
	r.e.bodies.Put(tooLarge)
	return r.encode(status, e, jobs.Answer{})
}

// withoutAnswer is how a job finished whose result has no room for its answer.
func (r *run) withoutAnswer(status contract.Status, e *contract.Error, have int) (contract.Status, *contract.Error) {
	if e != nil { // it matters more
		own := *e
		own.Message += "; the answer is left out: the result has more bytes than one message takes"
		return status, &own
	}
	if !r.effect.MayChange() {
		status = contract.Failed
	}
	return status, &contract.Error{Code: contract.CodeResultTooLarge, Message: tooLargeMessage(have, r.e.opts.MaxResult)}
}

// entry is the ledger row with a result.
func (r *run) entry(status contract.Status, body []byte) *db.Entry {
	return &db.Entry{
		JobID: r.id, RequestHash: r.hash, Status: string(status), Answer: body,
		Sequence: r.d.Sequence, Timestamp: r.d.Timestamp, Runner: r.e.opts.Runner, Supersedes: r.d.supersedes,
	}
}

// outcome publishes a completion: its result, the reply and, if the policy wants one, the dead letter.
func (r *run) outcome(c completion) Outcome {
	out := Outcome{Action: Settle, Status: c.status, JobID: r.id, run: r, completion: c}
	if c.err != nil {
		out.Code = string(c.err.Code)
		out.DeadLetter = r.deadLetter(r.reasonOf(c.status, out.Code), c.key, out.Code, c.err.Message)
		if out.DeadLetter != nil {
			out.DeadLetter.Faults = contract.AppendFaults(nil, c.err.Faults)
		}
	}
	if r.replyTo != "" {
		out.Reply = &Publication{Key: r.replyTo, Body: c.body}
	}
	if r.job == nil || !r.job.ReplyOnly {
		out.Store = &Publication{Key: c.key, Body: c.body}
	}
	return out
}
