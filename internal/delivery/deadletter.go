package delivery

import (
	"cmp"
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// reasonOf is the reason of the dead letter that a job leaves which finished with this status and code.
func (r *run) reasonOf(status contract.Status, code string) string {
	switch {
	case r.verdict.cause == storedLate:
		return contract.ReasonStoredLate
	case code == contract.ReasonTooManyDeliveries:
		return code
	default:
		return string(status)
	}
}

// deadLetter returns a dead letter, nil if the policy wants none for its reason.
func (r *run) deadLetter(reason, resultID, code, message string) *DeadLetter {
	if !slices.Contains(r.e.opts.Policy.DeadLetters, reason) {
		return nil
	}
	return &DeadLetter{
		DerivedID: r.d.DerivedID(), JobID: cmp.Or(r.ownID, r.id), Reason: reason, Code: code,
		Message: message, ResultID: resultID,
	}
}

func tooLargeError(have, limit int) error {
	return &db.Error{
		Class: db.ClassPermanent, Code: contract.CodeResultTooLarge, Statement: -1,
		Message: tooLargeMessage(have, limit),
	}
}
