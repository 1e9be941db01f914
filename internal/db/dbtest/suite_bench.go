package dbtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testTimeout is how long the suite waits for what must happen: far longer than it takes, far shorter than a
// slow query.
const testTimeout = 20 * time.Second

// canary stands for a secret value: it goes in as a parameter and must not come out in an error.
const canary = "canary-7f3a91"

// Tables that most tests begin with.
const (
	createItem = `CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name %s NOT NULL,
		amount INTEGER CHECK (amount >= 0), CONSTRAINT item_name UNIQUE (name))`
	createPart = `CREATE TABLE part (id INTEGER NOT NULL PRIMARY KEY,
		item_id INTEGER NOT NULL, CONSTRAINT part_item FOREIGN KEY (item_id) REFERENCES item (id))`
	insertItem = `INSERT INTO item (id, name) VALUES (:id, :name)`
)

// bench is one database of one test.
type bench struct {
	t    *testing.T
	h    Harness
	opts db.Options
	db   db.Database
}

// setup opens an empty database with the suite's tables, ready for jobs.
func setup(t *testing.T, h Harness, change ...func(*db.Options)) *bench {
	t.Helper()
	b := &bench{t: t, h: h, opts: h.Options(t)}
	first := b.open(b.opts)
	require.NoError(t, first.Probe(t.Context()))
	b.db = first
	b.exec(fmt.Sprintf(createItem, cmp.Or(h.SQL.Text, "VARCHAR(100)")))
	b.exec(createPart)
	if len(change) == 0 {
		return b
	}
	for _, c := range change {
		c(&b.opts)
	}
	b.db = b.open(b.opts)
	require.NoError(t, b.db.Probe(t.Context()))
	return b
}

// open opens another Database with the options; it is closed at the end of the test.
func (b *bench) open(opts db.Options) db.Database {
	b.t.Helper()
	d, err := b.h.Open(opts)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = d.Close() })
	return d
}

// second opens one more Database on the same server database: another runner.
func (b *bench) second(change ...func(*db.Options)) db.Database {
	b.t.Helper()
	opts := b.opts
	for _, c := range change {
		c(&opts)
	}
	d := b.open(opts)
	require.NoError(b.t, d.Probe(b.t.Context()))
	return d
}

func call() db.Call { return db.Call{Label: "suite", Timeout: testTimeout} }

func objects() db.RowOptions { return db.RowOptions{Format: db.Objects} }

func arrays() db.RowOptions { return db.RowOptions{Format: db.Arrays} }

// params of a statement by name.
type named map[string]dialect.Value

func text(s string) dialect.Value { return dialect.Value{Kind: dialect.String, Text: s} }

func number(n int) dialect.Value { return dialect.Value{Kind: dialect.Number, Text: strconv.Itoa(n)} }

func null() dialect.Value { return dialect.Value{Kind: dialect.Null, Text: "null"} }

// compile compiles a statement that must have no faults. Parameters are named or positional.
func (b *bench) compile(sql string, params ...any) *dialect.Compiled {
	b.t.Helper()
	stmt := dialect.Statement{SQL: sql}
	for _, p := range params {
		switch p := p.(type) {
		case named:
			stmt.Params.Named = p
		case dialect.Value:
			stmt.Params.List = append(stmt.Params.List, p)
		default:
			b.t.Fatalf("parameter of type %T", p)
		}
	}
	c, faults := dialect.Compile(b.db.Dialect(), stmt)
	require.Empty(b.t, faults, sql)
	return c
}

func (b *bench) item(id int, name string) *dialect.Compiled {
	b.t.Helper()
	return b.compile(insertItem, named{"id": number(id), "name": text(name)})
}

// exec runs one statement in a transaction that must succeed.
func (b *bench) exec(sql string, params ...any) db.ResultSet {
	b.t.Helper()
	sets, err := b.transact(nil, b.compile(sql, params...))
	require.NoError(b.t, err, sql)
	return sets[0]
}

func (b *bench) transact(seal db.BeforeCommit, statements ...*dialect.Compiled) ([]db.ResultSet, error) {
	return b.transactOn(b.db, seal, statements...)
}

func (b *bench) transactOn(d db.Database, seal db.BeforeCommit, statements ...*dialect.Compiled) ([]db.ResultSet, error) {
	tx := &db.Transaction{Statements: statements, Expect: make([]*db.Range, len(statements))}
	return d.Transact(b.t.Context(), call(), tx, objects(), seal)
}

// read runs a query that must succeed.
func (b *bench) read(sql string, params ...any) db.ResultSet {
	b.t.Helper()
	set, err := b.tryRead(b.db, sql, params...)
	require.NoError(b.t, err, sql)
	return set
}

func (b *bench) tryRead(d db.Database, sql string, params ...any) (db.ResultSet, error) {
	b.t.Helper()
	return d.Read(b.t.Context(), call(), b.compile(sql, params...), objects())
}

// count is the number of rows in a table, as committed.
func (b *bench) count(table string) int {
	b.t.Helper()
	return b.number("SELECT count(*) AS n FROM " + table)
}

// number reads one row with one column, a whole number, whether it is written as a JSON number or a string.
func (b *bench) number(sql string) int {
	b.t.Helper()
	n, err := strconv.Atoi(strings.Trim(b.value(sql, "n"), `"`))
	require.NoError(b.t, err)
	return n
}

// value reads the JSON of one column of a query's only row.
func (b *bench) value(sql, column string, params ...any) string {
	b.t.Helper()
	return only(b.t, b.read(sql, params...), column)
}

// only is the JSON of one column of a set's only row, in Objects format.
func only(t testing.TB, set db.ResultSet, column string) string {
	t.Helper()
	var rows []map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(set.Rows, &rows), string(set.Rows))
	require.Len(t, rows, 1)
	require.Contains(t, rows[0], column)
	return string(bytes.TrimSpace(rows[0][column]))
}

// entry is a ledger row of a job.
func entry(jobID string) *db.Entry {
	hash := sha256.Sum256([]byte(jobID))
	return &db.Entry{
		JobID: jobID, RequestHash: hash[:], Status: "succeeded", Answer: []byte(`{"job":"` + jobID + `"}`),
		Sequence: 1<<53 + 1, Timestamp: time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC), Runner: "runner-1",
	}
}

// sealed is a seal that returns the row of a job.
func sealed(jobID string) db.BeforeCommit {
	return func(context.Context, []db.ResultSet) (*db.Entry, error) { return entry(jobID), nil }
}

// requireError checks class and code, and that nothing secret shows.
func requireError(t testing.TB, err error, class db.Class, code contract.Code) *db.Error {
	t.Helper()
	require.Error(t, err)
	e, ok := errors.AsType[*db.Error](err)
	require.Truef(t, ok, "%T is no *db.Error: %v", err, err)
	require.Equal(t, class, e.Class, "class of: %v", err)
	require.Equal(t, code, e.Code, "code of: %v", err)
	require.NotEmpty(t, e.Message)
	require.NotContains(t, err.Error(), canary)
	require.NotContains(t, e.Message, canary)
	return e
}

// await receives from a channel, and fails the test when that takes too long.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(testTimeout):
		require.FailNow(t, "waited in vain", what)
		panic("unreachable")
	}
}

// eventually polls until a condition holds.
func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, testTimeout, 5*time.Millisecond, what)
}
