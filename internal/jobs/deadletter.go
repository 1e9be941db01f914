package jobs

import (
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// The reasons of dead letters besides the statuses failed, rejected and unknown.
const (
	ReasonTooManyDeliveries = contract.ReasonTooManyDeliveries
	ReasonJobIDReused       = contract.ReasonJobIDReused
	ReasonResultIDTaken     = contract.ReasonResultIDTaken
)

// letter returns the dead letter of an end, nil if the policy wants none for it.
func (r *run) letter(status Status, e *ResultError) *DeadLetter {
	if e == nil {
		return nil
	}
	out := r.letterFor(status, string(e.Code), e.Message)
	if out != nil {
		out.Faults = AppendFaults(nil, e.Faults)
	}
	return out
}

// letterFor returns the dead letter of an end of which only status and code are known.
func (r *run) letterFor(status Status, code, message string) *DeadLetter {
	reason := string(status)
	if code == ReasonTooManyDeliveries {
		reason = code
	}
	if !slices.Contains(r.e.opts.Policy.DeadLetters, reason) {
		return nil
	}
	return &DeadLetter{
		DerivedID: contract.DerivedID(r.d.Sequence, r.d.Timestamp), JobID: r.id, Reason: reason, Code: code,
		Message: message, ResultID: r.id,
	}
}

// newLetter returns a dead letter for a reason that is no status, nil if the policy wants none for it.
func (r *run) newLetter(reason, resultID string, e *ResultError) *DeadLetter {
	if !slices.Contains(r.e.opts.Policy.DeadLetters, reason) {
		return nil
	}
	return &DeadLetter{
		DerivedID: contract.DerivedID(r.d.Sequence, r.d.Timestamp), JobID: r.id, Reason: reason, Code: string(e.Code),
		Message: e.Message, ResultID: resultID,
	}
}

// AllDeadLetters are the reasons that a policy can name.
func AllDeadLetters() []string {
	return []string{
		string(Rejected), string(Failed), string(Unknown),
		ReasonTooManyDeliveries, ReasonJobIDReused, ReasonResultIDTaken,
	}
}

func tooLargeError(have, limit int) error {
	return &db.Error{
		Class: db.ClassPermanent, Code: db.CodeResultTooLarge, Statement: -1,
		Message: tooLargeMessage(have, limit),
	}
}
