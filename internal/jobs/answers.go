package jobs

import (
	"fmt"
	"runtime"

	"dbrunner/internal/db"
)

// The errors that results carry besides those of databases. Their texts are for the job's publisher: what
// happened, what it means, what to do.

func resultError(e *db.Error) *ResultError {
	message := e.Message
	if e.Class == db.ClassUnknown { // the ledger has told since that it did not commit
		message = "the connection was lost during COMMIT; nothing is committed"
	}
	if e.Statement > 0 {
		message = fmt.Sprintf("statements[%d]: %s", e.Statement, message)
	}
	return &ResultError{
		Code: e.Code, Message: message, EngineCode: e.EngineCode,
		Retryable: e.Class == db.ClassTransient || e.Class == db.ClassLost || e.Class == db.ClassTimeout ||
			e.Class == db.ClassUnknown,
	}
}

// ownDoingError is of executions that ended as if the database were down while it answered others.
func ownDoingError(e *db.Error) *db.Error {
	own := *e
	own.Class, own.Code = db.ClassPermanent, db.CodeDatabase
	own.Message += "; the database responds to other calls, so the job's own statements are the cause"
	return &own
}

func rejectionError(rej *Rejection) *ResultError {
	return &ResultError{Code: rej.Code, Message: rej.Message(), Faults: rej.Faults}
}

func expiredError() *ResultError {
	return &ResultError{Code: CodeExpired, Message: "the job expired before it started", Retryable: true}
}

func canceledError() *ResultError {
	return &ResultError{Code: CodeCanceled, Message: "the job was cancelled; nothing took effect"}
}

func stoppedError() *ResultError {
	return &ResultError{
		Code:    CodeOutcomeUnknown,
		Message: "the job was cancelled while it ran; the effects listed in this result remain",
	}
}

func unknownError() *ResultError {
	return &ResultError{
		Code:    CodeOutcomeUnknown,
		Message: "an earlier execution may have taken effect; no record shows whether it did",
	}
}

// haltedError is of a statement that the server has stopped, because somebody asked for its end or the runner had to go.
func haltedError(e *db.Error, asked bool) *ResultError {
	why := "the runner stopped while the statement ran"
	if asked {
		why = "the job was cancelled while its statement ran"
	}
	return &ResultError{
		Code: CodeCanceled, EngineCode: e.EngineCode, Retryable: true,
		Message: why + "; the server stopped the statement; its effects up to then may remain",
	}
}

func tooManyDeliveriesError(n uint64) *ResultError {
	return &ResultError{
		Code:    CodeTooManyDeliveries,
		Message: fmt.Sprintf("the job was delivered %d times without finishing; it may crash its runners", n),
	}
}

func reusedError(id string) *ResultError {
	return &ResultError{
		Code:    CodeIDReused,
		Message: fmt.Sprintf("the id %s belongs to a different request; nothing ran; use a new id", id),
	}
}

func resultTakenError(id, derived string) *ResultError {
	return &ResultError{
		Code: CodeResultTaken,
		Message: fmt.Sprintf("the job finished with this status, but the id %s has the result of another job; this result is stored under %s",
			id, derived),
	}
}

func internalError() *ResultError {
	return &ResultError{Code: CodeInternal, Message: "internal error; see the runner's log"}
}

func lostRowsError(have, limit int) *ResultError {
	return &ResultError{
		Code: db.CodeResultTooLarge,
		Message: fmt.Sprintf("the job finished with this status; its answer has %d bytes and the server accepts %d since its "+
			"max_payload was lowered; the ledger has the whole answer", have, limit),
	}
}

// panicError names a defect for the log. A value that is no runtime error may hold anything: only its type is told.
func panicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic with a %T", p)
}

func tooLargeMessage(have, limit int) string {
	return fmt.Sprintf("the result has %d bytes, more than the %d that one message takes", have, limit)
}
