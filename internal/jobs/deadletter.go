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

// reasonOf is the reason of the dead letter that a job leaves which finished with this status and code.
func reasonOf(status Status, code string) string {
	if code == ReasonTooManyDeliveries {
		return code
	}
	return string(status)
}

// deadLetter returns a dead letter, nil if the policy wants none for its reason.
func (r *run) deadLetter(reason, resultID, code, message string) *DeadLetter {
	if !slices.Contains(r.e.opts.Policy.DeadLetters, reason) {
		return nil
	}
	return &DeadLetter{
		DerivedID: contract.DerivedID(r.d.Sequence, r.d.Timestamp), JobID: r.id, Reason: reason, Code: code,
		Message: message, ResultID: resultID,
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
