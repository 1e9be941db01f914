package dbtest

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

func testTransact(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Commits":      testCommits,
		"AllOrNothing": testAllOrNothing,
		"Isolation": func(t *testing.T, h Harness) {
			b := setup(t, h)
			for i, level := range levels(h) {
				tx := &db.Transaction{
					Statements: []*dialect.Compiled{b.item(i, level.name)}, Expect: make([]*db.Range, 1), Isolation: level.level,
				}
				_, err := b.db.Transact(t.Context(), call(), tx, objects(), nil)
				require.NoError(t, err, level.name)
			}
			require.Equal(t, len(levels(h)), b.count("item"))
		},
		"Schema": func(t *testing.T, h Harness) {
			h.Needs(t, LacksNumbers)
			b := setup(t, h)
			_, err := b.transact(nil, b.compile("CREATE TABLE gone (id INTEGER)"), b.compile("SELECT * FROM no_such_table"))
			requireError(t, err, db.ClassPermanent, contract.CodeUndefined)
			_, err = b.tryRead(b.db, "SELECT * FROM gone")
			requireError(t, err, db.ClassPermanent, contract.CodeUndefined)
		},
		"DeferredConstraint": testDeferred,
		"Returning": func(t *testing.T, h Harness) {
			if !h.Has.Returning {
				return // the engine has no such words: nothing to conform to
			}
			b := setup(t, h)
			set := b.exec("INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id")
			require.Equal(t, `[{"id":1},{"id":2}]`, compact(set.Rows))
			require.EqualValues(t, 2, set.RowsAffected)
			require.Equal(t, 2, b.count("item"))
		},
	})
}

type level struct {
	name  string
	level db.Isolation
}

func levels(h Harness) []level {
	all := []level{
		{"default", db.IsolationDefault},
		{"read committed", db.ReadCommitted},
		{"repeatable read", db.RepeatableRead},
		{"serializable", db.Serializable},
	}
	if h.Has.Snapshot {
		all = append(all, level{"snapshot", db.Snapshot})
	}
	return all
}

func testCommits(t *testing.T, h Harness) {
	b := setup(t, h)
	sets, err := b.transact(nil,
		b.item(1, "a"), b.item(2, "b"),
		b.compile("SELECT id FROM item ORDER BY id"),
		b.compile("UPDATE item SET amount = 5"),
		b.compile("DELETE FROM item WHERE id = 7"),
		b.compile("CREATE TABLE other (id INTEGER)"),
	)
	require.NoError(t, err)
	require.Len(t, sets, 6)
	require.Nil(t, sets[0].Columns)
	require.Nil(t, sets[0].Rows)
	require.EqualValues(t, 1, sets[0].RowsAffected)
	require.Equal(t, `[{"id":1},{"id":2}]`, compact(sets[2].Rows), "a statement sees the ones before it")
	require.EqualValues(t, 2, sets[2].RowCount)
	require.EqualValues(t, 2, sets[2].RowsAffected)
	require.EqualValues(t, 2, sets[3].RowsAffected)
	require.EqualValues(t, 0, sets[4].RowsAffected)
	require.EqualValues(t, 0, sets[5].RowsAffected)
	require.Nil(t, sets[5].Columns)
	require.Equal(t, 2, b.count("item"))
	entry, err := b.db.Lookup(t.Context(), "a")
	require.NoError(t, err)
	require.Nil(t, entry, "no seal, no row")
}

// testAllOrNothing lets each statement of a transaction fail in turn.
func testAllOrNothing(t *testing.T, h Harness) {
	b := setup(t, h)
	b.exec(insertItem, named{"id": number(9), "name": text("taken")})
	for at := range 4 {
		statements := []*dialect.Compiled{b.item(1, "a"), b.item(2, "b"), b.item(3, "c"), b.item(4, "d")}
		statements[at] = b.item(10, "taken")
		sets, err := b.transact(sealed("never"), statements...)
		e := requireError(t, err, db.ClassPermanent, contract.CodeUnique)
		require.Equal(t, at, e.Statement)
		require.Nil(t, sets)
		require.Equal(t, 1, b.count("item"))
	}
	entry, err := b.db.Lookup(t.Context(), "never")
	require.NoError(t, err)
	require.Nil(t, entry)
}

// testDeferred lets COMMIT itself fail: that is an answer of the server, so a rollback, not an unknown end.
func testDeferred(t *testing.T, h Harness) {
	if !h.Has.DeferredConstraints {
		return // the engine has no such words: nothing to conform to
	}
	b := setup(t, h)
	b.exec(`CREATE TABLE late (id INTEGER NOT NULL PRIMARY KEY,
		item_id INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)`)
	_, err := b.transact(sealed("late"), b.compile("INSERT INTO late (id, item_id) VALUES (1, 99)"))
	requireError(t, err, db.ClassPermanent, contract.CodeForeignKey)
	require.Equal(t, 0, b.count("late"))
	entry, err := b.db.Lookup(t.Context(), "late")
	require.NoError(t, err)
	require.Nil(t, entry, "the fence went with the transaction")
	_, err = b.transact(sealed("late"),
		b.compile("INSERT INTO late (id, item_id) VALUES (1, 99)"), b.item(99, "just in time"))
	require.NoError(t, err)
	require.Equal(t, 1, b.count("late"))
}

func testGuards(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.transact(nil, b.item(1, "a"), b.item(2, "b"), b.item(3, "c"))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		sql   string
		guard *db.Range
		holds bool
	}{
		"exact":       {"UPDATE item SET amount = 1 WHERE id < 50", &db.Range{Min: 3, Max: 3}, true},
		"too many":    {"UPDATE item SET amount = 1 WHERE id < 50", &db.Range{Min: 2, Max: 2}, false},
		"too few":     {"UPDATE item SET amount = 1 WHERE id < 50", &db.Range{Min: 4, Max: 4}, false},
		"at least":    {"UPDATE item SET amount = 1 WHERE id < 50", &db.Range{Min: 1, Max: -1}, true},
		"none wanted": {"DELETE FROM item WHERE id = 1", &db.Range{Min: 0, Max: 0}, false},
		"none found":  {"DELETE FROM item WHERE id = 77", &db.Range{Min: 1, Max: 1}, false},
		"rows read":   {"SELECT id FROM item WHERE id < 50", &db.Range{Min: 3, Max: 3}, true},
		"rows missed": {"SELECT id FROM item WHERE id = 77", &db.Range{Min: 1, Max: -1}, false},
		"no guard":    {"DELETE FROM item WHERE id = 77", nil, true},
	} {
		tx := &db.Transaction{
			Statements: []*dialect.Compiled{b.item(50, "effect"), b.compile(c.sql), b.compile("DELETE FROM item WHERE id = 50")},
			Expect:     []*db.Range{nil, c.guard, nil},
		}
		called := false
		_, err := b.db.Transact(t.Context(), call(), tx, objects(),
			func(context.Context, []db.ResultSet) (*db.Entry, error) { called = true; return nil, nil })
		require.Equal(t, c.holds, called, name)
		if c.holds {
			require.NoError(t, err, name)
		} else {
			e := requireError(t, err, db.ClassPermanent, contract.CodeExpectRows)
			require.Equal(t, 1, e.Statement, name)
		}
		require.Equal(t, 3, b.count("item"), name)
	}
}

func testSeal(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Inside":     testSealInside,
		"Error":      testSealError,
		"NoEntry":    testSealNoEntry,
		"LedgerOnly": testSealAlone,
	})
}

// testSealInside shows that a seal is called once, with the sets, while nothing is visible outside yet.
func testSealInside(t *testing.T, h Harness) {
	b := setup(t, h)
	calls := 0
	seal := func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {
		calls++
		require.NoError(t, ctx.Err())
		require.Len(t, sets, 2)
		require.EqualValues(t, 1, sets[0].RowsAffected)
		require.Equal(t, "1", only(t, sets[1], "id"))
		require.Equal(t, 0, b.count("item"), "not visible outside")
		e := entry("job")
		e.Answer = sets[1].Rows
		return e, nil
	}
	sets, err := b.transact(seal, b.item(1, "a"), b.compile("SELECT id FROM item"))
	require.NoError(t, err)
	require.Len(t, sets, 2)
	require.Equal(t, 1, calls)
	require.Equal(t, 1, b.count("item"))
	row, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.NotNil(t, row)
	var rows []map[string]json.Number
	require.NoError(t, json.Unmarshal(row.Answer, &rows))
	require.Equal(t, json.Number("1"), rows[0]["id"])
}

func testSealError(t *testing.T, h Harness) {
	b := setup(t, h)
	refusal := errors.New("the seal says no")
	_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) { return entry("job"), refusal },
		b.item(1, "a"))
	require.Same(t, refusal, err, "returned as it is")
	require.Equal(t, 0, b.count("item"))
	row, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.Nil(t, row)
}

func testSealNoEntry(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) { return nil, nil }, b.item(1, "a"))
	require.NoError(t, err)
	require.Equal(t, 1, b.count("item"))
}

// testSealAlone fences a transaction whose statements only read.
func testSealAlone(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.transact(sealed("reader"), b.compile("SELECT count(*) AS n FROM item"))
	require.NoError(t, err)
	row, err := b.db.Lookup(t.Context(), "reader")
	require.NoError(t, err)
	require.NotNil(t, row)
}
