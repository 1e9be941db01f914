package dbtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// WriteCase is statements of one transaction and how many rows they write, as the engine counts them for max_affected.
// Table item (id, name, amount) has rows 1 to 6, named n1 to n6.
type WriteCase struct {
	Name       string
	Setup      []string // run before, each in a transaction of its own without a limit
	Statements []string
	Rows       int64  // written; without it, the transaction is refused as not countable
	Names      string // what the refusal has to name
	Trail      string // empty before, written to by triggers alone; without a name: there is none
	Needs      string // what the server at hand must not lack, see Features.Lacks
}

func testAffected(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Counted":      testCounted,
		"NotCountable": testNotCountable,
		"SixAndSix":    testSixAndSix,
		"BeforeSeal":   testAffectedBeforeSeal,
		"Separately":   testAffectedSeparately,
		"Batch":        testAffectedBatch,
	})
}

// affectedBench is a bench with six rows.
func affectedBench(t *testing.T, h Harness, setups []string) *bench {
	t.Helper()
	b := setup(t, h, func(o *db.Options) { o.Pool.Max, o.Limits.CountsRows = h.SmallestPool, true })
	for i := range 6 {
		_, err := b.transact(nil, b.item(i+1, fmt.Sprintf("n%d", i+1)))
		require.NoError(t, err)
	}
	for _, sql := range setups {
		b.exec(sql)
	}
	return b
}

// limited runs statements in one transaction with a limit on rows.
func (b *bench) limited(limit int64, seal db.BeforeCommit, statements ...*dialect.Compiled) error {
	tx := &db.Transaction{Statements: statements, Expect: make([]*db.Range, len(statements)), MaxAffected: limit}
	_, err := b.db.Transact(b.t.Context(), call(), tx, objects(), seal)
	return err
}

func (b *bench) compileAll(texts []string) []*dialect.Compiled {
	b.t.Helper()
	var out []*dialect.Compiled
	for _, sql := range texts {
		out = append(out, b.compile(sql))
	}
	return out
}

// requireExceeded requires the failure of a transaction above its limit, which names both numbers and leaves nothing.
func requireExceeded(b *bench, err error, rows, limit int64, job string) {
	b.t.Helper()
	e := requireError(b.t, err, db.ClassPermanent, contract.CodeMaxAffected)
	require.Contains(b.t, e.Message, fmt.Sprintf("wrote %d rows, and max_affected is %d;", rows, limit))
	requireNoRow(b, job)
}

func requireNoRow(b *bench, job string) {
	b.t.Helper()
	row, err := b.db.Lookup(b.t.Context(), job)
	require.NoError(b.t, err)
	require.Nil(b.t, row, "the fence is not reached")
}

// everyEngine are the cases that all engines have in the same words.
func everyEngine() []WriteCase {
	return []WriteCase{
		{Name: "inserts", Statements: []string{"INSERT INTO item (id, name) VALUES (11, 'a'), (12, 'b')", "INSERT INTO item (id, name) VALUES (13, 'c')"}, Rows: 3},
		{Name: "updates without a change", Statements: []string{"UPDATE item SET amount = amount WHERE id <= 4"}, Rows: 4},
		{Name: "rows read are none", Statements: []string{"SELECT * FROM item", "UPDATE item SET amount = 1 WHERE id = 1"}, Rows: 1},
		{Name: "the same row each time", Statements: []string{"UPDATE item SET amount = 1 WHERE id = 1", "UPDATE item SET amount = 2 WHERE id = 1", "DELETE FROM item WHERE id = 1"}, Rows: 3},
	}
}

func testCounted(t *testing.T, h Harness) {
	for _, c := range append(everyEngine(), h.Counted...) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, c.Needs)
			b := affectedBench(t, h, c.Setup)
			before := b.value("SELECT COALESCE(SUM(id), 0) AS n FROM item", "n")
			statements := b.compileAll(c.Statements)
			if c.Rows > 1 {
				requireExceeded(b, b.limited(c.Rows-1, sealed("job"), statements...), c.Rows, c.Rows-1, "job")
				require.Equal(t, before, b.value("SELECT COALESCE(SUM(id), 0) AS n FROM item", "n"))
			}
			require.NoError(t, b.limited(c.Rows, sealed("job"), statements...), "as many as the limit")
			row, err := b.db.Lookup(t.Context(), "job")
			require.NoError(t, err)
			require.NotNil(t, row)
		})
	}
}

// testNotCountable runs what is refused under a limit; it runs without one.
func testNotCountable(t *testing.T, h Harness) {
	all := append([]WriteCase{
		{Name: "create", Statements: []string{"UPDATE item SET amount = 1", "CREATE TABLE other (id INTEGER)"}, Names: "CREATE TABLE"},
		{Name: "drop", Statements: []string{"/* first */ DROP TABLE part"}, Names: "DROP TABLE"},
	}, h.NotCountable...)
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, c.Needs)
			b := affectedBench(t, h, c.Setup)
			statements := b.compileAll(c.Statements)
			err := b.limited(1<<40, sealed("job"), statements...)
			e := requireError(t, err, db.ClassPermanent, contract.CodeNotCountable)
			require.Contains(t, e.Message, c.Names)
			require.Equal(t, 6, b.count("item"))
			requireNoRow(b, "job")
			_, err = b.transact(sealed("job"), statements...)
			require.NoError(t, err, "it is refused only under a limit")
		})
	}
}

// testSixAndSix breaks a limit with statements that hold it one by one.
func testSixAndSix(t *testing.T, h Harness) {
	b := affectedBench(t, h, nil)
	six := b.compile("UPDATE item SET amount = 1")
	requireExceeded(b, b.limited(10, sealed("job"), six, six), 12, 10, "job")
	require.Equal(t, 0, b.number("SELECT COUNT(amount) AS n FROM item"))
	require.NoError(t, b.limited(12, sealed("job"), six, six))
	require.NoError(t, b.limited(1<<62, nil, six, six), "without a ledger row")
}

// testAffectedBeforeSeal shows that the limit is compared before the ledger row is asked for, and so before COMMIT, and
// after the statements' own guards.
func testAffectedBeforeSeal(t *testing.T, h Harness) {
	b := affectedBench(t, h, nil)
	seals := 0
	seal := func(context.Context, []db.ResultSet) (*db.Entry, error) { seals++; return entry("job"), nil }
	requireExceeded(b, b.limited(5, seal, b.compile("UPDATE item SET amount = 1")), 6, 5, "job")
	require.Zero(t, seals)
	tx := &db.Transaction{
		Statements: []*dialect.Compiled{b.compile("UPDATE item SET amount = 1")}, Expect: []*db.Range{{Min: 7, Max: 7}}, MaxAffected: 5,
	}
	_, err := b.db.Transact(t.Context(), call(), tx, objects(), seal)
	requireError(t, err, db.ClassPermanent, contract.CodeExpectRows)
	require.Zero(t, seals)
	require.NoError(t, b.limited(6, seal, b.compile("UPDATE item SET amount = 1")))
	require.Equal(t, 1, seals)
}

// testAffectedSeparately uses one session again and again: what its earlier transactions have written, committed or rolled back,
// with and without a limit, counts no more, and takes nothing from what the next one writes.
func testAffectedSeparately(t *testing.T, h Harness) {
	b := affectedBench(t, h, nil)
	eight := func(from int) []*dialect.Compiled {
		var out []*dialect.Compiled
		for i := range 8 {
			out = append(out, b.item(from+i, fmt.Sprintf("m%d", from+i)))
		}
		return out
	}
	for round := range 3 {
		from := 100 + 100*round
		require.NoError(t, b.limited(8, sealed(fmt.Sprintf("limited-%d", round)), eight(from)...))
		_, err := b.transact(nil, eight(from+10)...)
		require.NoError(t, err)
		requireError(t, b.limited(9, nil, append(eight(from+20), b.item(from, "twice"))...), db.ClassPermanent, contract.CodeUnique)
		requireExceeded(b, b.limited(7, nil, eight(from+30)...), 8, 7, "job")
		require.Error(t, b.limited(8, nil, append(eight(from+40), b.compile("SELECT * FROM no_such_table"))...))
		require.NoError(t, b.limited(8, nil, eight(from+50)...))
	}
}

func testAffectedBatch(t *testing.T, h Harness) {
	b := affectedBench(t, h, nil)
	batch := b.batchItems(&rowsOf{n: 20, row: func(i int) []dialect.Value { return []dialect.Value{number(20 + i), text(fmt.Sprintf("b%d", i))} }})
	update := b.compile("UPDATE item SET amount = 2 WHERE id <= 6")
	requireExceeded(b, b.limited(25, sealed("job"), batch, update), 26, 25, "job")
	require.NoError(t, b.limited(26, sealed("job"), batch, update))
	require.Equal(t, 26, b.count("item"))
}
