package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// maxOwnAnswer bounds a row of the engine's own queries, bytes: a ledger row holds a result.
const maxOwnAnswer = 256 << 20

// query runs a statement of ours, outside a job's segments, and returns its rows. The error is the server's
// (*pgconn.PgError) or the connection's; after the latter the session is dead.
func (s *session) query(sql string, args ...string) ([][][]byte, error) {
	rows, _, err := s.queryTag(sql, args...)
	return rows, err
}

func (s *session) queryTag(sql string, args ...string) (rows [][][]byte, affected int64, err error) {
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
func (s *session) roundTrip() (rows [][][]byte, affected int64, err error) {
	rows, affected, err = s.exchange()
	if err != nil {
		_, answered := errors.AsType[*pgconn.PgError](err)
		if _, ours := errors.AsType[*db.Error](err); !answered && !ours {
			s.abandon(err)
		}
	}
	return rows, affected, err
}

func (s *session) exchange() (rows [][][]byte, affected int64, err error) {
	s.in.limit, s.unconfirmed = maxOwnAnswer, false
	if _, err := s.write(); err != nil {
		return nil, 0, err
	}
	if err := s.drain(); err != nil {
		return nil, 0, linkEnd{err}
	}
	var failed error
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

// linkEnd hides what the server said in a clean-up: for the query it is the end of the connection.
type linkEnd struct{ cause error }

func (linkEnd) Error() string { return "postgres: the session was not clean" }

func copyRow(body []byte) ([][]byte, bool) {
	from, ok := rowOf(body)
	values := make([][]byte, from.count)
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
