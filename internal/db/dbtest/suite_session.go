package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testSessions leaves state behind in a session, by a job that commits and by one that fails, and looks for
// it in the next jobs.
func testSessions(t *testing.T, h Harness) {
	require.NotEmpty(t, h.Leaks)
	for _, leak := range h.Leaks {
		t.Run(leak.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, leak.Needs)
			b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
			read, inside := look(b, leak)
			gone := func(after string) {
				for range 3 {
					againRead, againInside := look(b, leak)
					require.Equal(t, read, againRead, "seen by a read after %s", after)
					require.Equal(t, inside, againInside, "seen in a transaction after %s", after)
				}
			}
			_, _ = b.transact(nil, rawStatements(leak.Set)...)
			gone("a job that commits")
			_, _ = b.transact(nil, append(rawStatements(leak.Set), &dialect.Compiled{SQL: "SELECT * FROM no_such_table"})...)
			gone("a job that fails")
			for _, sql := range leak.Set {
				_, _ = b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: sql}, objects())
			}
			gone("reads")
		})
	}
}

// look runs the query that would show the state, as a read and in a transaction. An error counts as a value.
func look(b *bench, leak Leak) (read, inside string) {
	b.t.Helper()
	set, err := b.db.Read(b.t.Context(), call(), &dialect.Compiled{SQL: leak.Look}, objects())
	read = shown(b.t, set, err)
	sets, err := b.transact(nil, &dialect.Compiled{SQL: leak.Look})
	if err != nil {
		return read, err.Error()
	}
	return read, shown(b.t, sets[0], nil)
}

func shown(t testing.TB, set db.ResultSet, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	return only(t, set, "v")
}

// rawStatements are statements that were not checked.
func rawStatements(texts []string) []*dialect.Compiled {
	out := make([]*dialect.Compiled, 0, len(texts)+1)
	for _, sql := range texts {
		out = append(out, &dialect.Compiled{SQL: sql})
	}
	return out
}

// testRefused sends what jobs must not send.
func testRefused(t *testing.T, h Harness) {
	b := setup(t, h)
	for _, sql := range []string{"BEGIN", "COMMIT", "ROLLBACK", "/* x */ commit", "SAVEPOINT a", "SELECT 1; SELECT 2"} {
		_, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: sql})
		require.NotEmpty(t, faults, sql)
	}
	for _, sql := range h.Refused {
		if _, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: sql}); len(faults) > 0 {
			continue
		}
		requireRefused(b, sql)
	}
	two := "INSERT INTO item (id, name) VALUES (81, 'x'); INSERT INTO item (id, name) VALUES (82, 'y')"
	for _, sql := range append([]string{two, "SELECT 1 AS n; SELECT 2 AS n"}, h.Bypass...) {
		requireRefused(b, sql)
	}
}

// requireRefused runs a statement between two effects: it fails, and neither of them is there.
func requireRefused(b *bench, sql string) {
	b.t.Helper()
	_, err := b.transact(sealed("refused"), b.item(1, "before"), &dialect.Compiled{SQL: sql}, b.item(2, "after"))
	require.Errorf(b.t, err, "not refused: %s", sql)
	require.Equal(b.t, db.ClassPermanent, db.ClassOf(err), "%s: %v", sql, err)
	require.Equal(b.t, 0, b.count("item"), sql)
	row, err := b.db.Lookup(b.t.Context(), "refused")
	require.NoError(b.t, err)
	require.Nil(b.t, row, sql)
}

func testErrors(t *testing.T, h Harness) {
	b := setup(t, h)
	b.exec(insertItem, named{"id": number(1), "name": text(canary)})
	name := named{"id": number(2), "name": text(canary)}
	for what, c := range map[string]struct {
		stmt *dialect.Compiled
		code contract.Code
		read bool // fails in a read too
	}{
		"unique":      {b.compile(insertItem, name), contract.CodeUnique, false},
		"primary key": {b.item(1, "other "+canary), contract.CodeUnique, false},
		"foreign key": {
			b.compile("INSERT INTO part (id, item_id) VALUES (1, :item)", named{"item": number(424242)}),
			contract.CodeForeignKey, false,
		},
		"not null": {b.compile("INSERT INTO item (id, name) VALUES (3, :name)", named{"name": null()}), contract.CodeNotNull, false},
		"check": {b.compile("INSERT INTO item (id, name, amount) VALUES (3, :name, :n)",
			named{"name": text(canary + "2"), "n": number(-424242)}), contract.CodeCheck, false},
		"syntax":    {&dialect.Compiled{SQL: "SELECT 1 AS n FROM"}, contract.CodeSyntax, true},
		"table":     {&dialect.Compiled{SQL: "SELECT * FROM no_such_table"}, contract.CodeUndefined, true},
		"column":    {&dialect.Compiled{SQL: "SELECT no_such_column FROM item"}, contract.CodeUndefined, true},
		"function":  {&dialect.Compiled{SQL: "SELECT no_such_function(1)"}, contract.CodeUndefined, true},
		"data":      {b.compile(h.SQL.DataError, named{"value": text(canary)}), contract.CodeData, true},
		"own value": {b.compile(insertItem, named{"id": text(canary), "name": text("x")}), contract.CodeData, false},
	} {
		t.Run(what, func(t *testing.T) {
			if c.code != contract.CodeUnique && c.code != contract.CodeNotNull {
				h.Needs(t, LacksNumbers)
			}
			_, err := b.transact(sealed("failed"), b.item(50, "effect"), c.stmt)
			e := requireError(t, err, db.ClassPermanent, c.code)
			require.Equal(t, 1, e.Statement)
			require.NotEmpty(t, e.EngineCode)
			require.NotContains(t, e.Error(), "424242")
			require.Equal(t, 1, b.count("item"))
			if c.read {
				_, err := b.db.Read(t.Context(), call(), c.stmt, objects())
				requireError(t, err, db.ClassPermanent, c.code)
			}
		})
	}
	row, err := b.db.Lookup(t.Context(), "failed")
	require.NoError(t, err)
	require.Nil(t, row)
}
