package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/golang-sql/sqlexp"
	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/internal/db"
)

// request is one message to the server: a batch as it is where it has no arguments, else a call of sp_executesql.
type request struct {
	text string
	args []driver.NamedValue
}

// receiver takes a server's answer, part by part: a part is a result set, or a count of rows.
type receiver interface {
	columns(columns []column) error
	row(values []driver.Value) error
	count(rows int64) error
	next() error // the part is over
}

// run sends a request and reads its answer to the end. The error is the server's first (an mssql.Error), a receiver's,
// or it is the link's or the context's; after those the session may be dead.
func (s *session) run(ctx context.Context, r request, out receiver) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.net.watch(func() { cancel(errLinkLost) })
	defer s.net.watch(nil)
	rows, messages, err := s.send(ctx, r)
	if err != nil {
		err = s.net.judge(err) // before kill, which ends reads as well
		s.kill()
		return err
	}
	a := answer{rows: rows, messages: messages, out: out}
	err = a.read(ctx)
	judged := s.net.judge(err)
	s.finish(ctx, rows, err)
	return judged
}

// send sends a request. The driver's messages are asked for, as they alone distinguish rows that were affected from those returned.
func (s *session) send(ctx context.Context, r request) (_ *mssql.Rowsq, _ *sqlexp.ReturnMessage, err error) {
	defer recovered(&err)
	messages := &sqlexp.ReturnMessage{}
	err = s.conn.CheckNamedValue(&driver.NamedValue{Value: messages})
	if err != driver.ErrRemoveArgument { //nolint:errorlint // the driver's answer to this call is this very value
		return nil, nil, errors.Join(err, errors.New("sqlserver: the driver takes no messages"))
	}
	// A leading blank: the driver would take a bare name for a procedure and call it.
	stmt, err := s.conn.PrepareContext(ctx, " "+r.text)
	if err != nil {
		return nil, nil, err
	}
	asking, ok := stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, nil, fmt.Errorf("sqlserver: the driver's statement is a %T", stmt)
	}
	answering, err := asking.QueryContext(ctx, r.args)
	if err != nil {
		return nil, nil, err
	}
	rows, ok := answering.(*mssql.Rowsq)
	if !ok {
		return nil, nil, errors.Join(answering.Close(), fmt.Errorf("sqlserver: the driver's rows are %T", answering))
	}
	return rows, messages, nil
}

// recovered makes a panic an error: the driver panics at rows of other columns than announced, and at sizes of packets that it cannot send. It also
// makes errors of what it cannot read that have no cause, whose texts panic.
func recovered(err *error) {
	unread, ok := errors.AsType[mssql.StreamError](*err)
	if recover() != nil || ok && unread.InnerError == nil {
		*err = mssql.StreamError{InnerError: errors.New("sqlserver: the driver cannot read what the server sent")}
	}
}

// finish leaves the session ready for another request, or dead.
func (s *session) finish(ctx context.Context, rows *mssql.Rowsq, err error) {
	_, own := errors.AsType[*db.Error](err)
	switch {
	case err == nil, answered(err):
	case own: // the rest of the answer is not wanted
		call := s.net.begin()
		s.net.cutAfter(call, attentionGrace)
		defer s.net.end(call)
	case errors.Is(err, context.Canceled) && context.Cause(ctx) != errLinkLost: //nolint:errorlint // set by run itself
	default:
		s.kill()
	}
	for driven(rows.Close) != nil { // again, until the driver's reader of the answer has ended, which waits for all that it has read to be taken
		s.kill()
		runtime.Gosched()
	}
}

// answered reports whether an error is the server's word, and the session goes on.
func answered(err error) bool {
	_, fatal := errors.AsType[mssql.ServerError](err)
	_, is := errors.AsType[mssql.Error](err)
	return is && !fatal
}

// answer reads the answer to one request.
type answer struct {
	rows     *mssql.Rowsq
	messages *sqlexp.ReturnMessage
	out      receiver
	first    error // of the server
	said     int   // bytes of the texts of its errors, which the driver keeps
}

func (a *answer) read(ctx context.Context) error {
	for {
		switch m := a.messages.Message(ctx).(type) {
		case sqlexp.MsgNext:
			if err := a.readRows(); err != nil {
				return err
			}
		case sqlexp.MsgRowsAffected:
			if err := a.out.count(m.Count); err != nil {
				return err
			}
		case sqlexp.MsgError:
			if err := a.note(m.Error); err != nil {
				return err
			}
		case sqlexp.MsgNextResultSet: // also when ctx is over: then the driver asks the server to stop
			if err := a.out.next(); err != nil {
				return err
			}
			err := driven(a.rows.NextResultSet)
			if errors.Is(err, io.EOF) {
				// The answer is complete, unless the link or the context ended before it.
				if a.first == nil && ctx.Err() != nil {
					return ctx.Err()
				}
				return a.first
			}
			if err != nil {
				return a.failed(err)
			}
		}
	}
}

// note keeps the server's first error: the others follow from it. What the driver could not read is no such error.
func (a *answer) note(err error) error {
	e, ok := errors.AsType[mssql.Error](err)
	if !ok {
		return driven(func() error { return err })
	}
	if a.said += errorSize + len(e.Message); a.said > maxErrors {
		return errTooMuch
	}
	if a.first == nil {
		a.first = err
	}
	return nil
}

// failed prefers what the server said before the answer broke off.
func (a *answer) failed(err error) error {
	if _, fatal := errors.AsType[mssql.ServerError](err); fatal && a.first != nil {
		return errors.Join(err, a.first)
	}
	return err
}

func (a *answer) readRows() error {
	columns, err := describe(a.rows)
	if err != nil {
		return err
	}
	if err := a.out.columns(columns); err != nil {
		return err
	}
	values := make([]driver.Value, len(columns))
	next := func() error { return a.rows.Next(values) }
	for {
		err := driven(next)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = a.out.row(values)
		}
		if err != nil {
			return a.failed(err)
		}
	}
}

// driven calls the driver.
func driven(call func() error) (err error) {
	defer recovered(&err)
	return call()
}

// What is read of an answer at most, so that no server has a runner take memory without end.
const (
	errorSize  = 256      // bytes of an error beside its text
	maxErrors  = 16 << 20 // bytes of the errors of an answer
	maxOwnRows = 10_000   // of an answer to a request of the engine's own
	ownColumns = 8        // that such a request asks for at most
)

// table is a receiver of the engine's own small answers: the rows of all result sets, and the last count.
type table struct {
	rows [][]driver.Value
	n    int64
}

func (*table) columns([]column) error { return nil }

// row keeps a row. What is missing of it is NULL.
func (t *table) row(values []driver.Value) error {
	if len(t.rows) == maxOwnRows {
		return errTooMuch
	}
	row := make([]driver.Value, ownColumns)
	copy(row, values)
	t.rows = append(t.rows, row)
	return nil
}

// first is the first row; without one, all of it is NULL.
func (t *table) first() []driver.Value { return append(t.rows, make([]driver.Value, ownColumns))[0] }

func (t *table) count(rows int64) error { t.n = rows; return nil }
func (*table) next() error              { return nil }

// query runs a request of the engine's own, its arguments @p1, @p2, ….
func (s *session) query(ctx context.Context, text string, args ...any) (*table, error) {
	t := &table{}
	named := make([]driver.NamedValue, len(args))
	for i, v := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return t, s.run(ctx, request{text: text, args: named}, t)
}
