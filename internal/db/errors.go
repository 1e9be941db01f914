package db

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"dbrunner/contract"
)

// Class reports what an error means for the work: whether it is undone, and whether repeating it can help.
type Class uint8

// The classes of errors.
const (
	// ClassPermanent: rolled back, and a repetition would end the same.
	ClassPermanent Class = iota + 1
	// ClassTransient: rolled back; the whole transaction may be repeated (serialization failure, deadlock,
	// lock not available).
	ClassTransient
	// ClassLost: the link was lost with the transaction open: nothing was or will be committed.
	ClassLost
	// ClassUnavailable: the database cannot be reached or takes no work now; nothing was started.
	ClassUnavailable
	// ClassUnknown: COMMIT (or a statement outside a transaction) was sent and no answer came.
	ClassUnknown
	// ClassAlreadyRecorded: the ledger has a row for this key already; rolled back.
	ClassAlreadyRecorded
	// ClassTimeout: the call's own time limit; rolled back.
	ClassTimeout
	// ClassCanceled: the context ended; rolled back.
	ClassCanceled
	// ClassLocked: another session executes the same job now; nothing was started.
	ClassLocked
	// ClassTookEffect: a statement outside of a transaction took effect; only its rows cannot be given.
	ClassTookEffect
)

// CodeCanceled is of work that was given up because its context ended. No result has it.
const CodeCanceled contract.Code = "canceled"

// Error is what an engine returns for everything that a server, a driver or a limit of ours refused.
type Error struct {
	Class      Class
	Code       contract.Code
	Message    string // safe to show to the job's publisher: no parameter value, no connection string
	EngineCode string // SQLSTATE or the engine's number; empty if the server did not answer
	Statement  int    // index of the statement at fault, -1 if none
	Err        error  // the cause, for errors.Is and As; never shown
}

// Error returns code and message.
func (e *Error) Error() string {
	if e.EngineCode != "" {
		return fmt.Sprintf("%s (%s): %s", e.Code, e.EngineCode, e.Message)
	}
	return string(e.Code) + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of an error that came from a Database; zero for any other.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return 0
}

// Errorf returns an Error that is about no statement in particular. Whatever is formatted into it must be safe
// to show to the job's publisher.
func Errorf(class Class, code contract.Code, format string, args ...any) *Error {
	return &Error{Class: class, Code: code, Message: fmt.Sprintf(format, args...), Statement: -1}
}

// RolledBack ends the message of an error that has ended a transaction.
const RolledBack = "; it is rolled back"

// NotRolledBack says of an error that ended a statement outside of a transaction what its class does not mean there, and
// returns the error.
func (e *Error) NotRolledBack() *Error {
	switch e.Class {
	case ClassTransient, ClassTimeout, ClassCanceled:
		e.Message = strings.TrimSuffix(e.Message, RolledBack) + "; it ran outside a transaction, so its effects up to then may remain"
	default: // the server refused it, or reports that all of it is done
	}
	return e
}

// OutcomeUnknown is the end of a statement outside of a transaction that the server did not report.
func OutcomeUnknown(cause error) *Error {
	return Errorf(ClassUnknown, contract.CodeConnectionLost,
		"no answer to a statement outside of a transaction: whether it took effect is not known").Because(cause)
}

// At names the statement at fault, by its index, and returns the error.
func (e *Error) At(statement int) *Error {
	e.Statement = statement
	return e
}

// Because sets the cause, which errors.Is and As see and no text shows, and returns the error.
func (e *Error) Because(cause error) *Error {
	e.Err = cause
	return e
}

// Answered reports whether the server has said how what it was asked ended.
func (e *Error) Answered() bool {
	switch e.Class {
	case ClassLost, ClassUnknown:
		return false
	default:
		return e.EngineCode != "" || e.Code != contract.CodeDatabase
	}
}

// InRow says in which row of a batch an error was met.
func (e *Error) InRow(row int64) *Error {
	named := *e
	named.Message = "row " + strconv.FormatInt(row, 10) + " of the batch: " + e.Message
	return &named
}

// ConnectionStringError reports that a connection string is wrong. It never holds a part of it.
type ConnectionStringError struct{ Err error }

func (e *ConnectionStringError) Error() string { return e.Err.Error() }

func (e *ConnectionStringError) Unwrap() error { return e.Err }
