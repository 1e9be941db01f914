package sqlserver

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// errClosed is the cause of what a closed pool refuses.
var errClosed = errors.New("sqlserver: closed")

// judge returns what an error of the server means while a transaction is open and COMMIT has not been sent.
func judge(e *mssql.Error) verdict {
	v, ok := verdicts[e.Number]
	switch {
	case e.Number == 547:
		v.code = constraintCode(e.Message)
	case ok:
	case e.Number >= firstUserNumber:
		v = verdict{permanent, contract.CodeDatabase, "a procedure or trigger of the database refused it; its text is not shown, as it may quote values"}
	case e.Class == severityResources:
		v = verdict{permanent, contract.CodeResources, "the server has not enough of something"}
	default:
		v = verdict{permanent, contract.CodeDatabase, "the server refused the statement"}
	}
	switch {
	case e.Class >= severityFatal && (v.class == permanent || v.class == transient):
		v.class = lost
	case e.Class < severityFatal && v.class == lost: // of a linked server
		v = verdict{transient, contract.CodeDatabase, "another server that the statement uses failed"}
	case v.class == unavailable: // the session is there, so that a statement of the job's met this elsewhere
		v.class = transient
	}
	return v
}

// constraintCode distinguishes the constraints of error 547. The words stand in the message in every language, before the first name.
func constraintCode(message string) contract.Code {
	if quote := strings.IndexByte(message, '"'); quote >= 0 {
		message = message[:quote]
	}
	switch {
	case strings.Contains(message, "FOREIGN KEY"), strings.Contains(message, "REFERENCE"):
		return contract.CodeForeignKey
	case strings.Contains(message, "CHECK"):
		return contract.CodeCheck
	}
	return contract.CodeConstraint
}

// maxShownName is the longest name that an error shows, in bytes. As a repetition in the patterns, it would cost a megabyte of memory.
const maxShownName = 256

// messageNames finds the names in messages that carry one and are made of nothing else that matters. Only plain names match, and only in English.
var messageNames = map[int32]*regexp.Regexp{
	207:  regexp.MustCompile(`^Invalid column name '([A-Za-z_#][A-Za-z0-9_#$]*)'\.$`),
	208:  regexp.MustCompile(`^Invalid object name '([A-Za-z_#][A-Za-z0-9_#$.]*)'\.$`),
	2812: regexp.MustCompile(`^Could not find stored procedure '([A-Za-z_][A-Za-z0-9_#$.]*)'\.$`),
	515:  regexp.MustCompile(`^Cannot insert the value NULL into column '([A-Za-z_][A-Za-z0-9_#$]*)', table '[A-Za-z0-9_#$.]*'`),
	547:  regexp.MustCompile(`^The [A-Z]+ statement conflicted with the [A-Z ]+ constraint "([A-Za-z_][A-Za-z0-9_#$]*)"`),
	2627: regexp.MustCompile(`^Violation of [A-Z ]+ constraint '([A-Za-z_][A-Za-z0-9_#$]*)'\. Cannot insert`),
	2601: regexp.MustCompile(`^Cannot insert duplicate key row in object '[A-Za-z0-9_#$.]*' with unique index '([A-Za-z_][A-Za-z0-9_#$]*)'\.`),
}

// serverError turns an error of the server into one that can be shown.
func (d *Database) serverError(e mssql.Error, at int) *db.Error {
	v := judge(&e)
	message := v.message
	if pattern := messageNames[e.Number]; pattern != nil {
		if m := pattern.FindStringSubmatch(e.Message); m != nil && len(m[1]) <= maxShownName {
			message += ": " + m[1]
		}
	}
	switch {
	case v.code == contract.CodeSyntax && at >= 0 && e.LineNo > 0:
		message += " in line " + strconv.Itoa(int(e.LineNo)) + " of the statement"
	case e.Number >= firstUserNumber && d.settings.showMessages:
		message = e.Message
	}
	return &db.Error{Class: v.class, Code: v.code, Message: message, EngineCode: strconv.Itoa(int(e.Number)), Statement: at, Err: e}
}

// interrupted is the error of a call whose context has ended.
func interrupted(ctx context.Context) *db.Error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errTimeLimit) {
		return engine.TimeOver()
	}
	return engine.GivenUp(cause)
}

// failure makes the public error of one that came before COMMIT was sent: in the call's context, by a statement's
// index, -1 for a request of the engine's own.
func (d *Database) failure(ctx context.Context, s *session, err error, at int) *db.Error {
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own.At(at)
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if e, ok := errors.AsType[mssql.Error](err); ok {
		out := d.serverError(e, at)
		if out.Class == db.ClassLost {
			s.kill()
		}
		return out
	}
	s.kill()
	d.lost()
	out := driverError(err)
	out.Message += "; nothing is committed"
	return out.At(at)
}

// driverError is engine.DriverError with the driver's own errors of a link that is lost or that cannot be read on.
func driverError(err error) *db.Error {
	_, ended := errors.AsType[mssql.ServerError](err)
	_, retryable := errors.AsType[mssql.RetryableError](err)
	_, garbled := errors.AsType[mssql.StreamError](err)
	if ended || retryable || garbled || errors.Is(err, context.Canceled) || errors.Is(err, errLinkLost) {
		return engine.ConnectionLost(err)
	}
	return engine.DriverError(err)
}

func errTransactionEnded() *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted,
		"the job's own statements ended the transaction, made it uncommittable or changed the database; nothing is committed")
}
