package sqlite

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// execute runs one statement of a job in the open transaction and encodes its rows. Between its first line
// and its last one the authorizer is strict; SQLite compiles a statement again while it steps, when the schema
// has changed.
func (c *session) execute(ctx context.Context, st *dialect.Compiled) (set db.ResultSet, failure *db.Error) {
	mem := c.h.mem
	mem.job, mem.private = 1, 0
	defer func() { mem.job = 0 }()
	s, kept, failure := c.compiled(st.SQL)
	if failure != nil {
		return set, placed(failure, st)
	}
	if mem.private != 0 {
		s.private = true
	}
	if c.vacuum {
		mem.job = 0
	}
	if st.Batch != nil {
		set, failure = c.playBatch(ctx, s, st.Batch)
	} else {
		set, failure = c.play(s, st.Args)
	}
	if failure != nil {
		failure = placed(failure, st)
	}
	if s.private || mem.private != 0 {
		c.spoilt = true
	}
	if kept {
		s.reset()
	} else {
		s.finalize()
	}
	return set, failure
}

// placed reports where in the publisher's own text an error of compiling is, if SQLite reports it.
func placed(failure *db.Error, st *dialect.Compiled) *db.Error {
	f, ok := errors.AsType[*fault](failure.Err)
	if !ok || f.offset < 0 || failure.Code != contract.CodeSyntax && failure.Code != contract.CodeUndefined {
		return failure
	}
	if _, character := st.Origin.PlaceOfByte(st.SQL, f.offset); character > 0 {
		failure.Message += " (character " + strconv.Itoa(character) + " of the statement)"
	}
	return failure
}

// compiled returns a statement ready to run, and whether the connection keeps it.
func (c *session) compiled(sql string) (s *stmt, kept bool, failure *db.Error) {
	if s := c.cache.get(sql); s != nil {
		return s, true, nil
	}
	if strings.IndexByte(sql, 0) >= 0 { // SQLite would end there
		return nil, false, db.Errorf(db.ClassPermanent, contract.CodeSyntax, "a NUL character in the statement")
	}
	c.h.mem.refused, c.h.mem.seen = 0, 0
	s, tail, err := c.h.prepare(sql, sqlite3.SQLITE_PREPARE_PERSISTENT)
	if err != nil {
		return nil, false, c.refused(err)
	}
	if s == nil {
		return nil, false, db.Errorf(db.ClassPermanent, contract.CodeSyntax, "the text has no statement")
	}
	if definesOnOurs(c.h.mem.seen, sql) {
		s.finalize()
		return nil, false, db.Errorf(db.ClassPermanent, contract.CodeForbiddenStatement, "%s", refusedWhat(sqlite3.SQLITE_ALTER_TABLE))
	}
	if c.more(tail) {
		s.finalize()
		return nil, false, db.Errorf(db.ClassPermanent, contract.CodeMultipleStatements, "one statement was expected")
	}
	s.sql = sql
	return s, c.cache.put(s), nil
}

// more reports whether another statement follows; comments and semicolons are none.
func (c *session) more(tail string) bool {
	for strings.TrimSpace(tail) != "" {
		s, rest, err := c.h.prepare(tail, 0)
		if s != nil {
			s.finalize()
		}
		if s != nil || err != nil || len(rest) >= len(tail) {
			return true
		}
		tail = rest
	}
	return false
}

// refused is the error of a statement that does not compile, perhaps because the authorizer said no.
func (c *session) refused(err error) *db.Error {
	e := c.failed(err, compiling)
	action := c.h.mem.refused
	if action == 0 || e.Class != db.ClassPermanent {
		return e
	}
	e.Code, e.Message = contract.CodeForbiddenStatement, refusedWhat(action)
	if action == sqlite3.SQLITE_TRANSACTION || action == sqlite3.SQLITE_SAVEPOINT {
		e.Code = contract.CodeTransactionControl
	}
	return e
}

// play binds the arguments and runs the statement to its end.
func (c *session) play(s *stmt, args []dialect.Value) (set db.ResultSet, failure *db.Error) {
	if err := bind(s, args); err != nil {
		return set, c.failed(err, running)
	}
	before := c.h.totalChanges()
	row, err := s.step()
	if err != nil {
		return set, c.notRun(s, err)
	}
	// The columns of a statement that was stepped. SQLite compiles a statement again when the schema has changed; its
	// columns may be others then.
	compiles := sqlite3.Xsqlite3_stmt_status(s.h.tls, s.p, sqlite3.SQLITE_STMTSTATUS_REPREPARE, 0)
	if compiles != s.compiles {
		s.columns = int(sqlite3.Xsqlite3_column_count(s.h.tls, s.p))
		s.compiles, s.described = compiles, nil
	}
	if s.described == nil && s.columns > 0 {
		s.described = make([]contract.Column, s.columns)
		for i := range s.described {
			// The type that the column was declared with; empty for an expression.
			s.described[i] = contract.Column{Name: libc.GoString(sqlite3.Xsqlite3_column_name(s.h.tls, s.p, int32(i))), Type: libc.GoString(sqlite3.Xsqlite3_column_decltype(s.h.tls, s.p, int32(i)))}
		}
	}
	columns := s.described
	if len(columns) > 0 {
		return c.encode(s, columns, row)
	}
	for row { // some statements that return nothing step more than once
		if row, err = s.step(); err != nil {
			return set, c.failed(err, running)
		}
	}
	if c.h.totalChanges() != before { // else changes() is that of an earlier statement
		set.RowsAffected = c.h.changes()
	}
	return set, nil
}

// notRun is the error of a statement's first step. SQLite compiles a statement there again when the schema has changed since,
// and reports what it finds then by the same number as an error of a value. Compiling it once more shows which of the two it is.
func (c *session) notRun(s *stmt, err error) *db.Error {
	failure := c.failed(err, running)
	if f, ok := errors.AsType[*fault](err); !ok || f.code != sqlite3.SQLITE_ERROR {
		return failure
	}
	c.h.mem.refused = 0
	again, _, err := c.h.prepare(s.sql, 0)
	if err != nil {
		return c.refused(err)
	}
	again.finalize()
	return failure
}

// encode steps through the rows from the first one, which is at hand if there is any.
func (c *session) encode(s *stmt, columns []contract.Column, row bool) (set db.ResultSet, failure *db.Error) {
	if err := c.rows.Start(columns); err != nil {
		return c.refuse(s, c.failed(err, running))
	}
	for row {
		dst := c.rows.BeginRow()
		for i := range columns {
			dst = appendValue(c.rows.Next(dst), s, i)
			if c.maxBytes > 0 && int64(len(dst)) > c.maxBytes { // without waiting for the row's other values
				return c.refuse(s, db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge,
					"a row that alone is above the limit of %d bytes, or the last of too many", c.maxBytes))
			}
		}
		err := c.rows.EndRow(dst)
		if err != nil {
			return c.refuse(s, c.failed(err, running))
		}
		if row, err = s.step(); err != nil {
			return set, c.failed(err, running)
		}
	}
	set, err := c.rows.Finish()
	if err != nil {
		return set, c.failed(err, running)
	}
	return set, nil
}

// refuse is the end of a statement whose rows cannot be given. Outside of a transaction it is run to its end.
func (c *session) refuse(s *stmt, failure *db.Error) (set db.ResultSet, _ *db.Error) {
	if !c.whole {
		return set, failure
	}
	for row := true; row; {
		var err error
		if row, err = s.step(); err != nil {
			return set, c.failed(err, running)
		}
	}
	failure.Class = db.ClassTookEffect
	return set, failure
}
