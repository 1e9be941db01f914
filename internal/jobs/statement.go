package jobs

import (
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// statement is one SQL statement of a job: as the publisher wrote it, and as the database gets it.
type statement struct {
	source   dialect.Statement
	compiled *dialect.Compiled

	rows []dialect.Params // it runs once for each of them; nil: once
	from *inputRef        // it runs for rows that are outside of the job; nil: it does not
}

// txMode is where a statement runs, which decides what it may be.
type txMode uint8

const (
	inside        txMode = iota // a transaction
	reading                     // a transaction that must change nothing
	noTransaction               // no transaction
)

// statement reads a statement from the places of its sql and its params (0 = absent) and compiles it. owner is the
// object that has them.
func (r *reader) statement(owner, sql, params int, where txMode) (s statement) {
	text, ok := r.sql(owner, sql)
	s.source.SQL = text
	if params != 0 {
		bound, readable := r.params(params)
		s.source.Params, ok = bound, ok && readable
	}
	if !ok {
		return s
	}
	var faults []contract.Fault
	compile := dialect.Compile
	if where == noTransaction {
		compile = dialect.CompileAutocommit
	}
	s.compiled, faults = compile(r.dialect, s.source)
	if where == reading && !slices.ContainsFunc(faults, ofText) {
		faults = append(faults, dialect.CheckReadOnly(r.dialect, s.source.SQL)...)
	}
	for _, f := range faults {
		r.rejectBelow(owner, f.Path, f.Code, f.Message)
	}
	return s
}

// ofText reports whether a fault is of a statement's text, not of its parameters.
func ofText(f contract.Fault) bool { return f.Path == "sql" }

func (r *reader) sql(owner, at int) (string, bool) {
	if at == 0 {
		r.rejectBelow(owner, "sql", contract.CodeMissingKey, "is required: the text of one SQL statement")
		return "", false
	}
	text, ok := r.isString(at, "the text of one SQL statement")
	if ok && strings.TrimSpace(text) == "" {
		r.reject(at, contract.CodeInvalidValue, "is empty: write the text of one SQL statement")
		return "", false
	}
	return text, ok
}

// sizeOf is about what a statement takes in a result besides its columns' names, bytes.
func sizeOf(set *db.ResultSet) int {
	size := len(set.Rows) + 64*(1+len(set.Columns))
	for i := range set.More {
		size += sizeOf(&set.More[i])
	}
	return size
}

// answerOf is an answer with statements, which names the engine whose words the types of columns are.
func (x *Execution) answerOf(a contract.Answer, size int, free func()) Answer {
	if hasColumns(&a.Set) || anyColumns(a.Statements) {
		a.Engine = x.Database.Engine()
	}
	return Answer{a, true, size, free}
}

// hasColumns reports whether a statement returned rows, in any of its answers.
func hasColumns(s *contract.Set) bool {
	return s.Columns != nil || anyColumns(s.More)
}

func anyColumns(sets []contract.Set) bool {
	for i := range sets {
		if hasColumns(&sets[i]) {
			return true
		}
	}
	return false
}

// setOf is what a statement did, in the words of the contract.
func setOf(set *db.ResultSet) contract.Set {
	s := rowsOf(set)
	s.RowsAffected, s.More = &set.RowsAffected, setsOf(set.More)
	return s
}

func setsOf(sets []db.ResultSet) []contract.Set {
	out := make([]contract.Set, len(sets))
	for i := range sets {
		out[i] = setOf(&sets[i])
	}
	return out
}

// rowsOf is the rows of a statement.
func rowsOf(set *db.ResultSet) contract.Set {
	return contract.Set{Columns: set.Columns, Object: set.Object, Rows: set.Rows, RowCount: set.RowCount, RowsOmitted: set.Omitted}
}
