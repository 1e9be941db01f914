package engine

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// Texts of conditions that each engine's server names by a code of its own.
const (
	LockNotFree      = "a lock was not free within the time limit"
	TransactionEnded = "the job's own statements ended the transaction"
	ShuttingDown     = "the server is shutting down"
)

// What is wrong with a parameter's value on every engine that reads it itself.
const (
	NotJSON   = "type json takes a JSON value, or a string that holds one"
	NotBase64 = "not standard base64 with padding"
)

// GivenUp is the end of a transaction whose work was given up.
func GivenUp(cause error) *db.Error {
	return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped"+db.RolledBack).Because(cause)
}

// TimeOver is the end of work in a transaction at the call's time limit.
func TimeOver() *db.Error {
	return db.Errorf(db.ClassTimeout, contract.CodeTimeout, "the job reached its time limit"+db.RolledBack).Because(context.DeadlineExceeded)
}

// WaitGivenUp is the end of a wait for a connection whose context has ended.
func WaitGivenUp(ctx context.Context) *db.Error {
	return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped while waiting for a connection").Because(context.Cause(ctx))
}

// Closed is what a closed pool refuses with.
func Closed(database string, cause error) *db.Error {
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "database %s is closed", database).Because(cause)
}

// Unreachable reports why there is no connection. The driver's error may hold secrets and is not kept. code is the server's, if
// it answered.
func Unreachable(database, remedy, code string) *db.Error {
	e := db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "database %s cannot be reached: %s", database, remedy)
	e.EngineCode = code
	return e
}

// Unfit reports what a database that was reached lacks for jobs.
func Unfit(database, format string, args ...any) *db.Error {
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "database %s: %s", database, fmt.Sprintf(format, args...))
}

// CheckNotConnected is why a check has no connection: its context's end, or what the engine says of the driver's error.
func CheckNotConnected(ctx context.Context, err error, explain func(error) *db.Error) *db.Error {
	if ctx.Err() != nil {
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "stopped while connecting").Because(context.Cause(ctx))
	}
	return explain(err)
}

// CheckFailed is why a check's query was not answered.
func CheckFailed(ctx context.Context, database string, err error, explain func(error) *db.Error) *db.Error {
	if ctx.Err() != nil {
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "stopped while querying the server").Because(context.Cause(ctx))
	}
	if e := explain(err); e.EngineCode != "" {
		return e
	}
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "database %s accepted the connection but did not answer a query", database)
}

// UnknownCommit is the end of a transaction whose COMMIT was sent and not answered.
func UnknownCommit(cause error) *db.Error {
	return db.Errorf(db.ClassUnknown, contract.CodeConnectionLost,
		"the connection was lost during COMMIT; it may have committed").Because(cause)
}

// NotEncoded makes an error of the encoder one of ours, unless it is one.
func NotEncoded(err error) *db.Error {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return e
	}
	return db.Errorf(db.ClassPermanent, contract.CodeDatabase, "the rows could not be encoded").Because(err)
}

// LinkLost reports whether an error of a driver is an end of its link. What a driver refuses for reasons of its own is not.
func LinkLost(err error) bool {
	for _, end := range [...]error{driver.ErrBadConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	_, network := errors.AsType[net.Error](err)
	return network
}

// ConnectionLost is the loss of a link whose transaction was open.
func ConnectionLost(cause error) *db.Error {
	return db.Errorf(db.ClassLost, contract.CodeConnectionLost, "the connection to the database was lost").Because(cause)
}

// DriverError is an error that a driver returned without an answer of the server: the link was lost, or the driver itself
// refused what it was asked.
func DriverError(err error) *db.Error {
	if LinkLost(err) {
		return ConnectionLost(err)
	}
	return db.Errorf(db.ClassPermanent, contract.CodeDatabase, "the driver of the database refused it or could not read the answer").Because(err)
}
