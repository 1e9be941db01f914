package jobs

import (
	"context"
	"encoding/binary"
	"strconv"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// maxStatements bounds the statements of one transaction.
const maxStatements = 1000

// Where the keys of a statement are in their list.
const (
	statementSQL = iota
	statementParams
	statementExpect
	statementBatch
	statementFrom
)

var statementKeys = []string{
	statementSQL: "sql", statementParams: "params", statementExpect: "expect_rows", statementBatch: "batch", statementFrom: "params_from",
}

// Where the keys of a guard are in their list.
const (
	expectMin = iota
	expectMax
)

var expectKeys = []string{expectMin: "min", expectMax: "max"}

// isolations are the words for isolation levels, in the order of db.Isolation behind the default.
var isolations = []string{"read_committed", "repeatable_read", "serializable", "snapshot"}

// commits are the words for how a transaction is committed.
var commits = []string{"shared"}

// transaction is the work of kind transaction: statements that take effect together or not at all.
type transaction struct {
	statements  []statement
	maxAffected int64 // its own limit on the rows that it writes; 0: none
	shared      bool  // it may share a commit with others
	tx          db.Transaction
}

// Where the keys of a transaction are in their list.
const (
	transactionStatements = iota
	transactionIsolation
	transactionMaxAffected
	transactionCommit
)

var transactionKeys = []string{
	transactionStatements: "statements", transactionIsolation: "isolation", transactionMaxAffected: "max_affected",
	transactionCommit: "commit",
}

func decodeTransaction(r *reader, at []int) work { return readTransaction(r, at) }

func readTransaction(r *reader, at []int) *transaction {
	t := &transaction{}
	if isolation := at[transactionIsolation]; isolation != 0 {
		if i, ok := r.isOneOf(isolation, isolations...); ok {
			t.tx.Isolation = db.ReadCommitted + db.Isolation(i)
			if t.tx.Isolation == db.Snapshot && !r.dialect.Snapshot {
				r.reject(isolation, contract.CodeInvalidValue, "this database's engine has no snapshot; repeatable_read comes nearest")
			}
		}
	}
	if limit := at[transactionMaxAffected]; limit != 0 {
		t.maxAffected, _ = r.isInteger(limit, 1, "the largest number of rows that the transaction may write, 1 or more")
	}
	if commit := at[transactionCommit]; commit != 0 {
		if _, t.shared = r.isOneOf(commit, commits...); t.shared && !r.sharedCommits {
			r.reject(commit, contract.CodeInvalidValue, "this database shares no commits: leave commit out, or set shared_commits: true in its configuration")
		}
	}
	list := at[transactionStatements]
	if list == 0 {
		r.rejectBelow(0, "statements", contract.CodeMissingKey, `is required: a list of {"sql": "…"}`)
		return t
	}
	if r.Kind(list) != jsontext.Array {
		r.reject(list, contract.CodeInvalidValue, `must be a list of {"sql": "…"}`+r.hintNull(list))
		return t
	}
	n := r.Len(list)
	switch {
	case n == 0:
		r.reject(list, contract.CodeInvalidValue, "needs at least one statement")
		return t
	case n > maxStatements:
		r.reject(list, contract.CodeInvalidValue, "may have at most "+strconv.Itoa(maxStatements)+" statements")
		return t
	}
	t.statements = make([]statement, 0, n)
	t.tx.Statements = make([]*dialect.Compiled, 0, n)
	t.tx.Expect = make([]*db.Range, 0, n)
	for i := list + 1; i < r.After(list); i = r.After(i) {
		t.decodeStatement(r, i)
	}
	return t
}

func (t *transaction) decodeStatement(r *reader, at int) {
	if !r.isObject(at, `write {"sql": "…"}`) {
		return
	}
	var found [5]int
	r.members(at, statementKeys, found[:])
	s := r.statementOf(at, found[:])
	t.statements = append(t.statements, s)
	t.tx.Statements = append(t.tx.Statements, s.compiled)
	var guard *db.Range
	if expect := found[statementExpect]; expect != 0 {
		guard = r.expectRows(expect)
	}
	t.tx.Expect = append(t.tx.Expect, guard)
}

// statementOf reads a statement that runs once, for a batch, or for parameters outside of the job.
func (r *reader) statementOf(at int, found []int) (s statement) {
	ways := 0
	for _, way := range []int{statementParams, statementBatch, statementFrom} {
		if found[way] != 0 {
			if ways++; ways == 2 {
				r.reject(found[way], contract.CodeInvalidValue, "a statement has one of params, batch and params_from: write one of them")
				return s
			}
		}
	}
	if found[statementBatch] == 0 && found[statementFrom] == 0 {
		return r.statement(at, found[statementSQL], found[statementParams], inside)
	}
	text, ok := r.sql(at, found[statementSQL])
	s.source.SQL = text
	switch {
	case !ok:
	case found[statementBatch] != 0:
		r.batch(at, found[statementBatch], &s)
	default:
		r.paramsFrom(at, found[statementFrom], &s)
	}
	return s
}

// expectRows reads a guard on the number of rows: n, or {min, max}.
func (r *reader) expectRows(at int) *db.Range {
	const what = `a number of rows, or {"min": n, "max": n} with at least one of the two`
	if r.Kind(at) != jsontext.Object {
		n, _ := r.isInteger(at, 0, what)
		return &db.Range{Min: n, Max: n}
	}
	var found [2]int
	before := r.faulty()
	r.members(at, expectKeys, found[:])
	guard := &db.Range{Min: 0, Max: -1}
	if found[expectMin] != 0 {
		guard.Min, _ = r.isInteger(found[expectMin], 0, "the least number of rows")
	}
	if found[expectMax] != 0 {
		guard.Max, _ = r.isInteger(found[expectMax], 0, "the largest number of rows")
	}
	switch {
	case r.faulty() > before:
	case found == [2]int{}:
		r.reject(at, contract.CodeInvalidValue, "must be "+what)
	case guard.Max >= 0 && guard.Min > guard.Max:
		r.reject(at, contract.CodeInvalidValue, "min is larger than max")
	}
	return guard
}

func (t *transaction) size() int { return len(t.statements) }

func (t *transaction) hash(dst []byte) []byte {
	dst = append(dst, byte(t.tx.Isolation))
	dst = binary.AppendUvarint(dst, uint64(len(t.statements)))
	for i := range t.statements {
		dst = t.statements[i].hash(dst)
		if guard := t.tx.Expect[i]; guard != nil {
			dst = binary.AppendVarint(append(dst, 'e'), guard.Min)
			dst = binary.AppendVarint(dst, guard.Max)
		} else {
			dst = append(dst, '-')
		}
	}
	if t.maxAffected > 0 { // nothing without it, so that the hashes of other requests stay what they were
		dst = binary.AppendVarint(append(dst, 'm'), t.maxAffected)
	}
	if t.shared {
		dst = append(dst, 's')
	}
	return dst
}

func (t *transaction) run(ctx context.Context, x *Execution) (Answer, error) {
	var sealed db.BeforeCommit
	if x.Seal != nil {
		sealed = func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {
			return x.Seal(ctx, x.statementsAnswer(sets))
		}
	}
	t.tx.Shared = t.shared && x.Shared
	return t.transact(ctx, x, x.Rows, sealed)
}

// transact executes the statements in one transaction.
func (t *transaction) transact(ctx context.Context, x *Execution, rows db.RowOptions, seal db.BeforeCommit) (Answer, error) {
	t.tx.MaxAffected = TighterLimit(t.maxAffected, x.MaxAffected)
	sets, err := x.Database.Transact(ctx, x.Call, &t.tx, rows, seal)
	if err != nil {
		return Answer{}, err
	}
	return x.statementsAnswer(sets), nil
}

// statementsAnswer is the answer of statements: what each of them did, in their order.
func (x *Execution) statementsAnswer(sets []db.ResultSet) Answer {
	size := 0
	for i := range sets {
		size += sizeOf(&sets[i])
	}
	free := func() {
		for i := range sets {
			sets[i].Free()
		}
	}
	return x.answerOf(contract.Answer{Statements: setsOf(sets)}, size, free)
}
