package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// maxOwnAnswer bounds the answer to a query of the engine's own, bytes: a ledger row holds a result.
const maxOwnAnswer = 256 << 20

// query runs a statement of ours, outside a job's segments, and returns its rows. The error is the server's
// (*pgconn.PgError) or the connection's; after the latter the session is dead.
func (s *session) query(sql string, args ...string) (ownRows, error) {
	rows, _, err := s.queryTag(sql, args...)
	return rows, err
}

func (s *session) queryTag(sql string, args ...string) (rows ownRows, affected int64, err error) {
	s.buf = appendParse(s.buf[:0], "", sql, nil)
	var at int
	s.buf, at = appendBindHead(s.buf, "", len(args))
	for _, a := range args {
		s.buf = appendTextArg(s.buf, a)
	}
	s.buf = appendSync(appendExecute(endBind(s.buf, at)))
	return s.roundTrip()
}

// roundTrip sends the buffer, which holds one segment of ours, and reads its answer.
func (s *session) roundTrip() (rows ownRows, affected int64, err error) {
	rows, affected, err = s.exchange()
	if err != nil {
		_, answered := errors.AsType[*pgconn.PgError](err)
		if _, ours := errors.AsType[*db.Error](err); !answered && !ours {
			s.abandon(err)
		}
	}
	return rows, affected, err
}

func (s *session) exchange() (rows ownRows, affected int64, err error) {
	s.in.limit, s.unconfirmed = maxOwnAnswer, false
	if _, err := s.write(); err != nil {
		return nil, 0, err
	}
	if err := s.drain(); err != nil {
		return nil, 0, linkEnd{err}
	}
	var failed error
	size := 0 // of the rows in memory, with their slices
	for {
		kind, body, err := s.receive()
		if err != nil && failed != nil {
			s.abandon(err)
			return nil, 0, failed // the server's last word before it hung up
		}
		if err != nil {
			return nil, 0, err
		}
		switch kind {
		case msgRow:
			row, ok := copyRow(body)
			if !ok {
				return nil, 0, errOutOfOrder
			}
			if size += len(body) + 24*(1+len(row)); size > maxOwnAnswer {
				return nil, 0, errTooLong
			}
			rows = append(rows, row)
		case msgComplete:
			affected = rowsAffected(tagOf(body))
		case msgError:
			e := errorOf(body)
			if failed == nil {
				failed = e
			}
			if fatal(e) {
				s.markBroken(false)
				return nil, 0, e
			}
		case msgReady:
			s.flushed()
			if failed == nil && s.unconfirmed {
				return nil, 0, unconfirmedCommit()
			}
			return rows, affected, failed
		}
	}
}

// ownRows is the answer to a query of ours. What is not there is an empty value: another server than PostgreSQL may answer anything.
type ownRows []ownRow

type ownRow [][]byte

// first returns a value of the first row.
func (r ownRows) first(column int) []byte {
	if len(r) == 0 {
		return nil
	}
	return r[0].value(column)
}

func (r ownRow) value(column int) []byte {
	if column >= len(r) {
		return nil
	}
	return r[column]
}

// linkEnd hides what the server said in a clean-up: for the query it is the end of the connection.
type linkEnd struct{ cause error }

func (linkEnd) Error() string { return "postgres: the session was not clean" }

func copyRow(body []byte) (ownRow, bool) {
	from, ok := rowOf(body)
	values := make(ownRow, from.count)
	for i := 0; ok && i < len(values); i++ {
		var v []byte
		if v, ok = from.value(); v != nil {
			values[i] = append(make([]byte, 0, len(v)), v...)
		}
	}
	return values, ok
}

// unnamedType is a column whose type has no name yet.
type unnamedType struct {
	column *contract.Column
	oid    uint32
}
