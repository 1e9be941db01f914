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

func testDryRun(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"RolledBack": testDryRunRolledBack,
		"Fails":      testDryRunFails,
		"Deferred":   testDryRunDeferred,
		"Rows":       testDryRunRows,
		"Separately": testDryRunBatch,
		"Writes":     testDryRunWrites,
	})
}

// dryRun runs statements in one transaction that is rolled back.
func (b *bench) dryRun(opts db.RowOptions, seal db.BeforeCommit, tx *db.Transaction) ([]db.ResultSet, error) {
	if tx.Expect == nil {
		tx.Expect = make([]*db.Range, len(tx.Statements))
	}
	tx.DryRun = true
	return b.db.Transact(b.t.Context(), call(), tx, opts, seal)
}

// testDryRunRolledBack shows that a dry run sees its own effect, asks its seal in the open transaction, and leaves neither a row
// nor a ledger row, on a session that goes on.
func testDryRunRolledBack(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	b.exec(insertItem, named{"id": number(1), "name": text("kept")})
	for range 3 {
		calls := 0
		seal := func(_ context.Context, sets []db.ResultSet) (*db.Entry, error) {
			calls++
			require.Len(t, sets, 3)
			return entry("never"), nil
		}
		sets, err := b.dryRun(objects(), seal, &db.Transaction{Statements: []*dialect.Compiled{
			b.item(2, "b"), b.compile("UPDATE item SET amount = 7"), b.compile("SELECT id FROM item ORDER BY id"),
		}})
		require.NoError(t, err)
		require.Equal(t, 1, calls)
		require.EqualValues(t, 2, sets[1].RowsAffected)
		require.Equal(t, `[{"id":1},{"id":2}]`, compact(sets[2].Rows))
		require.Equal(t, 1, b.count("item"))
		require.Equal(t, 0, b.number("SELECT count(*) AS n FROM item WHERE amount = 7"))
		requireNoRow(b, "never")
	}
	b.exec("UPDATE item SET amount = 8") // no lock is left
}

// testDryRunFails shows that a dry run fails as its transaction would: at a statement, a guard, the limit on rows, or the seal.
func testDryRunFails(t *testing.T, h Harness) {
	b := affectedBench(t, h, nil)
	for name, c := range map[string]struct {
		tx   db.Transaction
		code contract.Code
	}{
		"statement": {db.Transaction{Statements: []*dialect.Compiled{b.item(8, "n8"), b.item(1, "n1")}}, contract.CodeUnique},
		"guard": {db.Transaction{
			Statements: []*dialect.Compiled{b.compile("DELETE FROM item")}, Expect: []*db.Range{{Min: 1, Max: 1}},
		}, contract.CodeExpectRows},
		"limit": {db.Transaction{
			Statements: []*dialect.Compiled{b.compile("UPDATE item SET amount = 1"), b.compile("DELETE FROM item")}, MaxAffected: 10,
		}, contract.CodeMaxAffected},
	} {
		_, err := b.dryRun(objects(), nil, &c.tx)
		requireError(t, err, db.ClassPermanent, c.code)
		require.Equal(t, 6, b.count("item"), name)
	}
	_, err := b.dryRun(objects(), func(context.Context, []db.ResultSet) (*db.Entry, error) {
		return nil, db.Errorf(db.ClassPermanent, contract.CodeData, "no")
	}, &db.Transaction{Statements: []*dialect.Compiled{b.compile("DELETE FROM item")}})
	requireError(t, err, db.ClassPermanent, contract.CodeData)
	require.Equal(t, 6, b.count("item"))
}

// testDryRunDeferred shows that what would fail at COMMIT fails in a dry run.
func testDryRunDeferred(t *testing.T, h Harness) {
	if !h.Has.DeferredConstraints {
		return // the engine has no such words: nothing to conform to
	}
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	b.exec(`CREATE TABLE late (id INTEGER NOT NULL PRIMARY KEY,
		item_id INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)`)
	violated := b.compile("INSERT INTO late (id, item_id) VALUES (1, 99)")
	_, committed := b.transact(nil, violated)
	want := requireError(t, committed, db.ClassPermanent, contract.CodeForeignKey)
	for range 2 {
		_, err := b.dryRun(objects(), nil, &db.Transaction{Statements: []*dialect.Compiled{violated}})
		got := requireError(t, err, db.ClassPermanent, contract.CodeForeignKey)
		require.Equal(t, want.Error(), got.Error(), "as COMMIT says it")
	}
	_, err := b.dryRun(objects(), nil, &db.Transaction{Statements: []*dialect.Compiled{violated, b.item(99, "just in time")}})
	require.NoError(t, err)
	require.Equal(t, 0, b.count("late"))
	require.Equal(t, 0, b.count("item"))
}

// testDryRunRows shows that only the first rows are kept, that all of them count, and that the digest covers all of them whatever
// their order and their format.
func testDryRunRows(t *testing.T, h Harness) {
	b := setup(t, h)
	run := func(opts db.RowOptions, sql string) db.ResultSet {
		opts.Digest, opts.Keep = true, 2
		sets, err := b.dryRun(opts, nil, &db.Transaction{Statements: []*dialect.Compiled{b.compile(sql)}})
		require.NoError(t, err)
		return sets[0]
	}
	three := run(objects(), h.SQL.Numbers(3))
	require.Equal(t, `[{"n":1},{"n":2}]`, compact(three.Rows))
	require.EqualValues(t, 3, three.RowCount)
	require.EqualValues(t, 3, three.RowsAffected)
	require.EqualValues(t, 1, three.Omitted)
	require.Equal(t, three.Digest, run(arrays(), h.SQL.Numbers(3)).Digest)
	require.NotEqual(t, three.Digest, run(objects(), h.SQL.Numbers(4)).Digest)
	require.Nil(t, b.read(h.SQL.Numbers(3)).Digest)
	for i := range 3 {
		b.exec(insertItem, named{"id": number(i), "name": text(fmt.Sprint("n", i))})
	}
	require.Equal(t, run(objects(), "SELECT id, name FROM item ORDER BY id").Digest, run(objects(), "SELECT id, name FROM item ORDER BY id DESC").Digest)
	none := run(objects(), "UPDATE item SET amount = 1")
	require.Nil(t, none.Digest)
	capped := db.RowOptions{Format: db.Objects, Keep: 2, MaxRows: 3}
	_, err := b.dryRun(capped, nil, &db.Transaction{Statements: []*dialect.Compiled{b.compile(h.SQL.Numbers(4))}})
	requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
}

// testDryRunBatch rolls back statements that run for a batch, which need round trips of their own.
func testDryRunBatch(t *testing.T, h Harness) {
	b := setup(t, h)
	sets, err := b.dryRun(objects(), nil, &db.Transaction{Statements: []*dialect.Compiled{
		b.batchItems(items(50)), b.compile("SELECT count(*) AS n FROM item"),
	}})
	require.NoError(t, err)
	require.EqualValues(t, 50, sets[0].RowsAffected)
	require.Equal(t, 0, b.count("item"))
}

// testDryRunWrites rolls back each way to write rows: triggers, cascades, functions, CTEs. Their rows count, and none of them is left.
func testDryRunWrites(t *testing.T, h Harness) {
	for _, c := range h.Counted {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, c.Needs)
			b := affectedBench(t, h, c.Setup)
			for range 2 {
				_, err := b.dryRun(objects(), nil, &db.Transaction{Statements: b.compileAll(c.Statements), MaxAffected: c.Rows})
				require.NoError(t, err)
				_, err = b.dryRun(objects(), nil, &db.Transaction{Statements: b.compileAll(c.Statements), MaxAffected: c.Rows - 1})
				requireError(t, err, db.ClassPermanent, contract.CodeMaxAffected)
				require.Equal(t, 6, b.count("item"))
				require.True(t, c.Trail == "" || b.count(c.Trail) == 0, "what its trigger has written is rolled back")
			}
			require.NoError(t, b.limited(c.Rows, nil, b.compileAll(c.Statements)...))
			require.True(t, c.Trail == "" || b.count(c.Trail) > 0, "the trigger fires when it is committed")
		})
	}
}
