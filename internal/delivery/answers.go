package delivery

import (
	"fmt"
	"runtime"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// The errors that results carry besides those of databases. Their texts are for the job's publisher: what
// happened, what it means, what to do.

func resultError(e *db.Error) *contract.Error {
	message := e.Message
	if e.Class == db.ClassUnknown { // the ledger shows that it did not commit
		message = "the connection was lost during COMMIT; nothing is committed"
		if e.EngineCode != "" { // it was answered
			message = "COMMIT failed: " + e.Message + "; nothing is committed"
		}
	}
	if e.Statement > 0 {
		message = fmt.Sprintf("statements[%d]: %s", e.Statement, message)
	}
	return &contract.Error{
		Code: e.Code, Message: message, EngineCode: e.EngineCode,
		Retryable: e.Class == db.ClassTransient || e.Class == db.ClassLost || e.Class == db.ClassTimeout ||
			e.Class == db.ClassUnknown,
	}
}

// ownDoingError is of executions that ended as if the database were down while it answered others.
func ownDoingError(e *db.Error) *db.Error {
	own := *e
	own.Class, own.Code = db.ClassPermanent, contract.CodeDatabase
	own.Message += "; the database responds to other calls, so the job's own statements are the cause"
	return &own
}

func expiredError() *contract.Error {
	return &contract.Error{Code: contract.CodeExpired, Message: "the job expired before it started", Retryable: true}
}

func storedLateError(readable bool) *contract.Error {
	e := &contract.Error{
		Code: contract.CodeExpired,
		Message: "the message was stored after the time in its header " + contract.HeaderStoredBy + ", so that an earlier copy may have " +
			"run; it did not run; find out whether the job took effect, then publish it again under a new id",
	}
	if !readable {
		e.Message = "the header " + contract.HeaderStoredBy + " is not one time in RFC 3339; the job did not run; publish it again with a " +
			"valid header, or without it"
	}
	return e
}

func canceledError() *contract.Error {
	return &contract.Error{Code: contract.CodeCanceled, Message: "the job was cancelled; nothing took effect"}
}

func stoppedError() *contract.Error {
	return &contract.Error{
		Code:    contract.CodeOutcomeUnknown,
		Message: "the job was cancelled while it ran; the effects listed in this result remain",
	}
}

func unknownError() *contract.Error {
	return &contract.Error{
		Code:    contract.CodeOutcomeUnknown,
		Message: "an earlier execution may have taken effect; no record shows whether it did",
	}
}

// haltedError is of a statement that the server has stopped, because a cancel request arrived or the runner stopped.
func haltedError(e *db.Error, asked bool) *contract.Error {
	why := "the runner stopped while the statement ran"
	if asked {
		why = "the job was cancelled while its statement ran"
	}
	return &contract.Error{
		Code: contract.CodeCanceled, EngineCode: e.EngineCode, Retryable: true,
		Message: why + "; the server stopped the statement; its effects up to then may remain",
	}
}

func tooManyDeliveriesError(n uint64) *contract.Error {
	return &contract.Error{
		Code:    contract.CodeTooManyDeliveries,
		Message: fmt.Sprintf("the job was delivered %d times without finishing; it may crash its runners", n),
	}
}

func reusedError(id string) *contract.Error {
	return &contract.Error{
		Code:    contract.CodeIDReused,
		Message: fmt.Sprintf("the id %s belongs to a different request, or to one that was given up; nothing ran; use a new id", id),
	}
}

func resultTakenError(id, derived string) *contract.Error {
	return &contract.Error{
		Code: contract.CodeResultTaken,
		Message: fmt.Sprintf("the job finished with this status, but the id %s has the result of another job; this result is stored under %s",
			id, derived),
	}
}

func internalError() *contract.Error {
	return &contract.Error{Code: contract.CodeInternal, Message: "internal error; see the runner's log"}
}

func lostRowsError(have, limit int) *contract.Error {
	return &contract.Error{
		Code: contract.CodeResultTooLarge,
		Message: fmt.Sprintf("the job finished with this status; its answer has %d bytes and the server accepts %d since its "+
			"max_payload was lowered; the ledger has the whole answer", have, limit),
	}
}

// panicError names a defect for the log. A value that is no runtime error may hold anything: only its type is logged.
func panicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic with a %T", p)
}

func tooLargeMessage(have, limit int) string {
	return fmt.Sprintf("the result has %d bytes, more than the %d that one message takes", have, limit)
}
