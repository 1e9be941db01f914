package dbtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

func testRead(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Objects": func(t *testing.T, h Harness) {
			b := setup(t, h)
			set := b.read(h.SQL.Numbers(3))
			require.Equal(t, `[{"n":1},{"n":2},{"n":3}]`, compact(set.Rows))
			require.Len(t, set.Columns, 1)
			require.Equal(t, "n", set.Columns[0].Name)
			require.EqualValues(t, 3, set.RowCount)
			require.EqualValues(t, 3, set.RowsAffected)
		},
		"Arrays": func(t *testing.T, h Harness) {
			b := setup(t, h)
			set, err := b.db.Read(t.Context(), call(), b.compile(h.SQL.Numbers(3)), arrays())
			require.NoError(t, err)
			require.Equal(t, `[[1],[2],[3]]`, compact(set.Rows))
			require.Equal(t, "n", set.Columns[0].Name)
		},
		"NoRows": func(t *testing.T, h Harness) {
			b := setup(t, h)
			set := b.read("SELECT id, name FROM item")
			require.Equal(t, `[]`, string(set.Rows))
			require.Len(t, set.Columns, 2)
			require.Zero(t, set.RowCount)
		},
		"Null":             testReadNull,
		"ManyRows":         testReadMany,
		"DuplicateColumns": testDuplicateColumns,
		"SeesCommitted": func(t *testing.T, h Harness) {
			b := setup(t, h)
			b.exec(insertItem, named{"id": number(1), "name": text("a")})
			require.Equal(t, 1, b.count("item"))
			b.exec("DELETE FROM item")
			require.Equal(t, 0, b.count("item"))
		},
		"SchemaChange": testSchemaChange,
	})
}

func compact(rows []byte) string { return strings.ReplaceAll(string(rows), " ", "") }

func testReadNull(t *testing.T, h Harness) {
	b := setup(t, h)
	b.exec(insertItem, named{"id": number(1), "name": text("quote \" backslash \\ new\nline 🦆")})
	set := b.read("SELECT id, name, amount FROM item")
	require.JSONEq(t, `[{"id":1,"name":"quote \" backslash \\ new\nline 🦆","amount":null}]`, string(set.Rows))
	require.Equal(t, "name", set.Columns[1].Name, "columns keep their order")
	require.NotEmpty(t, set.Columns[1].Type)
}

func testReadMany(t *testing.T, h Harness) {
	b := setup(t, h)
	const n = 20_000
	set, err := b.db.Read(t.Context(), call(), b.compile(h.SQL.Numbers(n)), arrays())
	require.NoError(t, err)
	require.EqualValues(t, n, set.RowCount)
	rows := compact(set.Rows)
	require.True(t, strings.HasPrefix(rows, "[[1],[2],"), rows[:20])
	require.True(t, strings.HasSuffix(rows, ",[20000]]"), rows[len(rows)-20:])
	require.Equal(t, n-1, strings.Count(rows, "],["))
}

func testDuplicateColumns(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.tryRead(b.db, "SELECT 1 AS a, 2 AS a")
	requireError(t, err, db.ClassPermanent, contract.CodeDuplicateColumn)
	set, err := b.db.Read(t.Context(), call(), b.compile("SELECT 1 AS a, 2 AS a"), arrays())
	require.NoError(t, err)
	require.Equal(t, `[[1,2]]`, compact(set.Rows))
}

// testSchemaChange repeats a statement whose meaning changed in between: nothing that an engine keeps of it
// may be stale.
func testSchemaChange(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	b.exec(insertItem, named{"id": number(1), "name": text("a")})
	for range 3 {
		require.Len(t, b.read("SELECT * FROM item").Columns, 3)
	}
	b.exec("ALTER TABLE item ADD extra INTEGER")
	for range 3 {
		eventually(t, func() bool {
			set, err := b.tryRead(b.db, "SELECT * FROM item")
			return err == nil && len(set.Columns) == 4
		}, "the new column")
	}
}

func testValues(t *testing.T, h Harness) {
	require.NotEmpty(t, h.Values)
	b := setup(t, h)
	for _, c := range h.Values {
		t.Run(c.Name, func(t *testing.T) {
			set, err := b.db.Read(t.Context(), call(), b.compile(c.SQL), arrays())
			require.NoError(t, err)
			require.Equal(t, "[["+c.JSON+"]]", string(set.Rows))
			require.Len(t, set.Columns, 1)
			require.Equal(t, contract.Column{Name: "v", Type: c.Type}, set.Columns[0])
			sets, err := b.transact(nil, b.compile(c.SQL))
			require.NoError(t, err)
			require.Equal(t, c.JSON, only(t, sets[0], "v"), "in a transaction")
		})
	}
}

func testCaps(t *testing.T, h Harness) {
	b := setup(t, h)
	ten := b.compile(h.SQL.Numbers(10))
	read := func(opts db.RowOptions) error {
		_, err := b.db.Read(t.Context(), call(), ten, opts)
		return err
	}
	require.NoError(t, read(db.RowOptions{Format: db.Objects, MaxRows: 10}))
	requireError(t, read(db.RowOptions{Format: db.Objects, MaxRows: 9}), db.ClassPermanent, contract.CodeResultTooLarge)
	require.NoError(t, read(db.RowOptions{Format: db.Objects, MaxBytes: 1000}))
	requireError(t, read(db.RowOptions{Format: db.Objects, MaxBytes: 50}), db.ClassPermanent, contract.CodeResultTooLarge)

	big := b.compile(h.SQL.Numbers(1_000_000))
	_, err := b.db.Read(t.Context(), call(), big, db.RowOptions{Format: db.Arrays, MaxRows: 10})
	requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	require.Equal(t, 0, b.count("item"), "the connection is good for the next call")
	testTransactionCaps(t, b, ten)
}

// testTransactionCaps shows that the caps hold over all statements, and that what exceeds them commits nothing.
func testTransactionCaps(t *testing.T, b *bench, ten *dialect.Compiled) {
	tx := &db.Transaction{Statements: []*dialect.Compiled{b.item(1, "a"), ten, ten}, Expect: make([]*db.Range, 3)}
	transact := func(opts db.RowOptions, seal db.BeforeCommit) error {
		_, err := b.db.Transact(t.Context(), call(), tx, opts, seal)
		return err
	}
	err := transact(db.RowOptions{Format: db.Objects, MaxRows: 19}, sealed("capped"))
	e := requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	require.Equal(t, 2, e.Statement)
	require.Equal(t, 0, b.count("item"))
	err = transact(db.RowOptions{Format: db.Objects, MaxBytes: 100}, nil)
	requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	require.Equal(t, 0, b.count("item"))
	require.NoError(t, transact(db.RowOptions{Format: db.Objects, MaxRows: 20}, sealed("capped")))
	require.Equal(t, 1, b.count("item"))
}

func testReadOnly(t *testing.T, h Harness) {
	require.NotEmpty(t, h.Writes)
	b := setup(t, h)
	for _, sql := range h.Writes {
		_, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: sql}, objects())
		e := requireError(t, err, db.ClassPermanent, contract.CodeReadOnly)
		require.NotEmpty(t, e.Message)
		require.Equal(t, 0, b.count("item"), sql)
	}
	_, err := b.transact(nil, b.item(1, "a"))
	require.NoError(t, err, "writing goes on working beside it")
	faults := dialect.CheckReadOnly(b.db.Dialect(), insertItem)
	require.NotEmpty(t, faults)
	require.Empty(t, dialect.CheckReadOnly(b.db.Dialect(), h.SQL.Numbers(1)))
}
