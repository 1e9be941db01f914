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
		message = "the connection to the database was lost while it committed; nothing is committed"
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
	own.Message += "; the database answers others meanwhile, so the job's own statements are the cause"
	return &own
}

func rejectionError(rej *Rejection) *ResultError {
	return &ResultError{Code: rej.Code, Message: rej.Message(), Faults: rej.Faults}
}

func expiredError() *ResultError {
	return &ResultError{Code: CodeExpired, Message: "the time after which this job must not be begun was over", Retryable: true}
}

func canceledError() *ResultError {
	return &ResultError{Code: CodeCanceled, Message: "somebody asked for the end of this job; nothing of it took effect"}
}

func stoppedError() *ResultError {
	return &ResultError{
		Code:    CodeOutcomeUnknown,
		Message: "somebody asked for the end of this job while it ran; what it had done by then stays, as this result tells",
	}
}

func unknownError() *ResultError {
	return &ResultError{
		Code:    CodeOutcomeUnknown,
		Message: "an earlier execution of this job may have taken effect, and nothing on record says whether it did",
	}
}

// haltedError is of a statement that the server has stopped, because somebody asked for its end or the runner had to go.
func haltedError(e *db.Error, asked bool) *ResultError {
	why := "the runner had to end while the statement ran"
	if asked {
		why = "somebody asked for the end of this job while its statement ran"
	}
	return &ResultError{
		Code: CodeCanceled, EngineCode: e.EngineCode, Retryable: true,
		Message: why + ", and the server has stopped it; what it had done until then may remain",
	}
}

func tooManyDeliveriesError(n uint64) *ResultError {
	return &ResultError{
		Code:    CodeTooManyDeliveries,
		Message: fmt.Sprintf("the job was delivered %d times without coming to an end; its runners may have died of it", n),
	}
}

func reusedError(id string) *ResultError {
	return &ResultError{
		Code:    CodeIDReused,
		Message: fmt.Sprintf("the id %s belongs to another request; nothing was done; publish this job under an id of its own", id),
	}
}

func resultTakenError(id, derived string) *ResultError {
	return &ResultError{
		Code: CodeResultTaken,
		Message: fmt.Sprintf("the job has ended as its status says, but the id %s has the result of another job; this result is stored under %s",
			id, derived),
	}
}

func internalError() *ResultError {
	return &ResultError{Code: CodeInternal, Message: "the runner failed while it ran this job; its operators find the cause in the log"}
}

func lostRowsError(have, limit int) *ResultError {
	return &ResultError{
		Code: db.CodeResultTooLarge,
		Message: fmt.Sprintf("the job ended as its status says; its answer has %d bytes and the server takes %d since its "+
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
