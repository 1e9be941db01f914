package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testPrepare: the server judges statements, runs none of them, and the database goes on afterwards. An engine need not have it.
func testPrepare(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	p, ok := b.db.(db.Preparer)
	if !ok {
		return
	}
	integer := "integer"
	if b.db.Engine() == "sqlserver" {
		integer = "int"
	}
	with := func(sql, typ string) *dialect.Compiled {
		return b.compile(sql, named{"id": {Kind: dialect.Null, Type: typ, Text: "null"}})
	}
	for _, stmt := range []*dialect.Compiled{
		b.compile("SELECT id, name FROM item"), with("SELECT name FROM item WHERE id = :id", ""), with("SELECT name FROM item WHERE id = :id", integer),
		with("UPDATE item SET name = 'x' WHERE id = :id", ""), with("DELETE FROM item WHERE id = :id", integer), b.item(1, "a"),
	} {
		for range 2 {
			require.NoError(t, p.Prepare(t.Context(), stmt), stmt.SQL)
		}
	}
	for sql, code := range map[string]contract.Code{
		"SELECT nosuch FROM item": contract.CodeUndefined, "DELETE FROM nosuch": contract.CodeUndefined, "SELECT id FROM item WHERE": contract.CodeSyntax,
		"UPDATE item SET nosuch = 1": contract.CodeUndefined,
	} {
		err := p.Prepare(t.Context(), b.compile(sql))
		require.Error(t, err, sql)
		if !h.Has.Lacks[LacksNumbers] {
			requireError(t, err, db.ClassPermanent, code)
		}
	}
	require.Zero(t, b.count("item"), "nothing ran")
	_, err := b.transact(nil, b.item(1, "a"))
	require.NoError(t, err)
	require.Equal(t, 1, b.count("item"))
}
