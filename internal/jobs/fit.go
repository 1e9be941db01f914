package jobs

import (
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// compose encodes a result of this delivery so that one message takes it: one that does not fit would be offered again
// indefinitely. Where the answer has no room it is left out, and the result says so, as result_too_large; a job
// that only reads has failed then. It returns the status and the error that the result has.
func (r *run) compose(status Status, e *ResultError, a answer) (Status, *ResultError) {
	r.body = r.encode(status, e, a)
	have, limit := len(r.body), r.e.opts.MaxResult
	if have <= limit {
		return status, e
	}
	if a.append != nil {
		status, e = r.withoutAnswer(status, e, have)
		r.recode(status, e)
	}
	for len(r.body) > limit && e.shorten() {
		r.recode(status, e)
	}
	return status, e
}

// recode encodes a result again, without an answer, in the place of one that does not fit.
func (r *run) recode(status Status, e *ResultError) {
	r.e.bodies.Put(r.body)
	r.body = r.encode(status, e, answer{})
}

// withoutAnswer is how a job ended whose result has no room for its answer.
func (r *run) withoutAnswer(status Status, e *ResultError, have int) (Status, *ResultError) {
	if e != nil { // it says what matters more
		own := *e
		own.Message += "; the answer is left out: the result has more bytes than one message takes"
		return status, &own
	}
	if r.effect == ReadOnly {
		status = Failed
	}
	return status, &ResultError{Code: db.CodeResultTooLarge, Message: tooLargeMessage(have, r.e.opts.MaxResult)}
}

// leastMessage is how much of a message is always kept, bytes.
const leastMessage = 512

// shorten leaves a part of the error out. false: nothing more can be.
func (e *ResultError) shorten() bool {
	switch {
	case e == nil:
		return false
	case len(e.Faults) > 1:
		e.Faults = e.Faults[:len(e.Faults)/2]
	case len(e.Message) > leastMessage+len("…"):
		e.Message = jsontext.Clip(e.Message, max(len(e.Message)/2, leastMessage))
	default:
		return false
	}
	return true
}

// endWith ends the job with an answer.
func (r *run) endWith(status Status, e *ResultError, a answer) Outcome {
	return r.settle(r.compose(status, e, a))
}

// result is a result of this delivery without an answer.
func (r *run) result(status Status, e *ResultError) []byte {
	r.compose(status, e, answer{})
	return r.body
}
