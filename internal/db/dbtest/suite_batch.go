package dbtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// rowsOf is a batch that is made while it is read.
type rowsOf struct {
	n     int
	row   func(i int) []dialect.Value // i from 1
	opens int
	fail  error // in the place of the last row
}

func (r *rowsOf) Open(context.Context) (dialect.BatchRows, error) {
	r.opens++
	return &openRows{of: r}, nil
}

type openRows struct {
	of   *rowsOf
	next int
}

func (r *openRows) Next() ([]dialect.Value, error) {
	switch r.next++; {
	case r.next > r.of.n:
		return nil, io.EOF
	case r.next == r.of.n && r.of.fail != nil:
		return nil, r.of.fail
	}
	return r.of.row(r.next), nil
}

func (*openRows) Close() error { return nil }

func items(n int) *rowsOf {
	return &rowsOf{n: n, row: func(i int) []dialect.Value { return []dialect.Value{number(i), text(fmt.Sprintf("name %d", i))} }}
}

// batch is a statement that runs for rows.
func (b *bench) batch(sql string, rows dialect.Batch, like ...any) *dialect.Compiled {
	b.t.Helper()
	c := *b.compile(sql, like...)
	c.Args, c.Batch = nil, rows
	return &c
}

func (b *bench) batchItems(rows dialect.Batch) *dialect.Compiled {
	b.t.Helper()
	return b.batch(insertItem, rows, named{"id": number(1), "name": text("x")})
}

const batchRows = 5003 // no multiple of what goes together

func testBatch(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Insert":  testBatchInsert,
		"Others":  testBatchOthers,
		"Refused": testBatchRefused,
		"Stops":   testBatchStops,
		"Cut":     testBatchCut,
	})
}

func testBatchInsert(t *testing.T, h Harness) {
	b := setup(t, h)
	rows := items(batchRows)
	sets, err := b.transact(sealed("job"), b.compile("DELETE FROM item WHERE id = 0"), b.batchItems(rows), b.compile("SELECT count(*) AS n FROM item"))
	require.NoError(t, err)
	require.Equal(t, []int64{0, batchRows}, []int64{sets[0].RowsAffected, sets[1].RowsAffected})
	require.Equal(t, batchRows, b.count("item"))
	require.Equal(t, batchRows, b.number("SELECT max(id) AS n FROM item"))
	require.Equal(t, `"name 4711"`, b.value("SELECT name AS v FROM item WHERE id = 4711", "v"))
	require.Equal(t, 1, rows.opens)

	again := &rowsOf{n: 1, row: func(int) []dialect.Value { return []dialect.Value{number(-1), text("one")} }}
	sets, err = b.transact(sealed("job2"), b.batchItems(again))
	require.NoError(t, err)
	require.EqualValues(t, 1, sets[0].RowsAffected)
	_, err = b.transact(sealed("job"), b.batchItems(items(0)))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "the fence holds for batches too: %v", err)
	sets, err = b.transact(nil, b.batchItems(items(0)))
	require.NoError(t, err)
	require.Zero(t, sets[0].RowsAffected)
}

// testBatchOthers runs statements that cannot be written for many rows.
func testBatchOthers(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.transact(nil, b.batchItems(items(100)))
	require.NoError(t, err)
	update := b.batch("UPDATE item SET amount = :amount WHERE id = :id", &rowsOf{n: 100, row: func(i int) []dialect.Value {
		return []dialect.Value{number(2 * i), number(i)}
	}}, named{"id": number(1), "amount": number(1)})
	sets, err := b.transact(sealed("job"), update)
	require.NoError(t, err)
	require.EqualValues(t, 100, sets[0].RowsAffected)
	require.Equal(t, 10100, b.number("SELECT sum(amount) AS n FROM item"))
	tx := one(b.batch("DELETE FROM item WHERE id = :id", &rowsOf{n: 50, row: func(i int) []dialect.Value { return []dialect.Value{number(i)} }}, named{"id": number(1)}), db.IsolationDefault)
	tx.Expect = []*db.Range{{Min: 51, Max: 51}}
	_, err = b.db.Transact(t.Context(), call(), tx, objects(), nil)
	e := requireError(t, err, db.ClassPermanent, contract.CodeExpectRows)
	require.Contains(t, e.Message, "50 rows", "the guard is on the sum")
	require.Equal(t, 100, b.count("item"))
	selected := b.compile("INSERT INTO item (id, name) SELECT id + 1000, :name FROM item WHERE id = 1", named{"name": text("x")})
	selected.Args, selected.Batch = nil, &rowsOf{n: 1, row: func(int) []dialect.Value { return []dialect.Value{text("copy")} }}
	sets, err = b.transact(nil, selected)
	require.NoError(t, err)
	require.EqualValues(t, 1, sets[0].RowsAffected)
}

func testBatchRefused(t *testing.T, h Harness) {
	b := setup(t, h)
	const poison = 3777
	rows := items(batchRows)
	plain := rows.row
	rows.row = func(i int) []dialect.Value {
		if i == poison {
			return []dialect.Value{number(1), text(canary)} // the id is taken
		}
		return plain(i)
	}
	_, err := b.transact(sealed("job"), b.batchItems(rows))
	e := requireError(t, err, db.ClassPermanent, contract.CodeUnique)
	require.Regexp(t, `row 3777 of the batch|one of the rows \d+ to \d+ of the batch`, e.Message)
	require.NotContains(t, e.Message, canary)
	require.Equal(t, 0, e.Statement)
	require.Zero(t, b.count("item"), "all or nothing")

	given := db.Errorf(db.ClassPermanent, contract.CodeParameter, "line 9 is none")
	rows = items(2500)
	rows.fail = given
	_, err = b.transact(sealed("job"), b.batchItems(rows))
	require.ErrorContains(t, err, "line 9 is none")
	require.Zero(t, b.count("item"))
	rows.fail = errors.New("a defect")
	_, err = b.transact(sealed("job"), b.batchItems(rows))
	require.Error(t, err)
	require.Zero(t, b.count("item"))

	_, err = b.transact(sealed("job"), b.batch("SELECT :n AS n", &rowsOf{n: 3, row: func(i int) []dialect.Value { return []dialect.Value{number(i)} }}, named{"n": number(1)}))
	requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
	_, err = b.transact(sealed("job"), b.batchItems(items(10)))
	require.NoError(t, err, "the key is free, and the session as good as before")
}

// testBatchStops ends a batch in the middle.
func testBatchStops(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	endless := items(1 << 30)
	plain := endless.row
	endless.row = func(i int) []dialect.Value {
		if i == 2000 {
			time.Sleep(2 * short) // by the clock: the time limit is over in the middle
		}
		return plain(i)
	}
	_, err := b.db.Transact(t.Context(), db.Call{Label: "batch", Timeout: short}, one(b.batchItems(endless), db.IsolationDefault), objects(), sealed("job"))
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	_, err = b.db.Transact(ctx, call(), one(b.batchItems(endless), db.IsolationDefault), objects(), sealed("job"))
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.Zero(t, b.count("item"))
}

// testBatchCut loses the link in the middle of a batch: nothing of it is left, and the whole is repeated, from its first row,
// as a runner does. The table would take a row twice.
func testBatchCut(t *testing.T, h Harness) {
	if h.Cuttable == nil {
		return // the engine has no link that could be lost
	}
	b := setup(t, h)
	b.exec("CREATE TABLE loaded (id INTEGER NOT NULL, name " + cmp.Or(h.SQL.Text, "VARCHAR(100)") + " NOT NULL)")
	through, cut := h.Cuttable(t, b.opts)
	cuttable := b.open(through)
	require.NoError(t, cuttable.Probe(t.Context()))
	for i, at := range []int{1, batchRows / 2, batchRows} {
		job := fmt.Sprint("job", at)
		rows := items(batchRows)
		plain := rows.row
		rows.row = func(i int) []dialect.Value {
			if i == at && rows.opens == 1 {
				cut()
			}
			return plain(i)
		}
		load := b.batch("INSERT INTO loaded (id, name) VALUES (:id, :name)", rows, named{"id": number(1), "name": text("x")})
		_, err := b.transactOn(cuttable, sealed(job), load)
		requireError(t, err, db.ClassLost, contract.CodeConnectionLost)
		require.Equal(t, 1, rows.opens)
		require.Equal(t, i*batchRows, b.count("loaded"), "nothing is left")
		row, err := b.db.Lookup(t.Context(), job)
		require.NoError(t, err)
		require.Nil(t, row)

		sets, err := b.transactOn(cuttable, sealed(job), load)
		require.NoError(t, err)
		require.EqualValues(t, batchRows, sets[0].RowsAffected)
		require.Equal(t, 2, rows.opens, "read again from its beginning")
		require.Equal(t, (i+1)*batchRows, b.count("loaded"))
	}
	require.Equal(t, batchRows, b.number("SELECT count(*) AS n FROM (SELECT id FROM loaded GROUP BY id, name HAVING count(*) = 3) AS each_once"))
}
