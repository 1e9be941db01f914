package dbtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

func testParams(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Named":      testNamed,
		"Positional": testPositional,
		"Faults":     testParamFaults,
		"Typed":      testTypedParams,
		"Text":       testTextParams,
	})
}

func testNamed(t *testing.T, h Harness) {
	b := setup(t, h)
	b.exec("INSERT INTO item (id, name, amount) VALUES (:id, :name, :amount)",
		named{"id": number(7), "name": text("a"), "amount": null()})
	b.exec("INSERT INTO item (id, name, amount) VALUES (:id, :name, :id)", named{"id": number(8), "name": text("b")})
	set := b.read("SELECT id, amount FROM item WHERE id = :id OR amount = :id ORDER BY id", named{"id": number(8)})
	require.JSONEq(t, `[{"id":8,"amount":8}]`, string(set.Rows))
	require.Equal(t, 1, b.number("SELECT count(*) AS n FROM item WHERE amount IS NULL"))
	set = b.read("SELECT ':not a :parameter' AS v FROM item WHERE id = :id -- nor :this\n", named{"id": number(7)})
	require.JSONEq(t, `[{"v":":not a :parameter"}]`, string(set.Rows))
}

func testPositional(t *testing.T, h Harness) {
	b := setup(t, h)
	sql := fmt.Sprintf("INSERT INTO item (id, name, amount) VALUES (%s, %s, %s)",
		h.SQL.Positional(1), h.SQL.Positional(2), h.SQL.Positional(3))
	b.exec(sql, number(1), text("a"), number(10))
	require.Equal(t, `10`, b.value("SELECT amount FROM item WHERE id = "+h.SQL.Positional(1), "amount", number(1)))
}

func testParamFaults(t *testing.T, h Harness) {
	b := setup(t, h)
	for name, stmt := range map[string]dialect.Statement{
		"missing": {SQL: insertItem, Params: dialect.Params{Named: named{"id": number(1)}}},
		"extra": {SQL: insertItem, Params: dialect.Params{Named: named{
			"id": number(1), "name": text("a"), "more": text(canary),
		}}},
		"none given":     {SQL: insertItem},
		"none wanted":    {SQL: "SELECT 1 AS n", Params: dialect.Params{List: []dialect.Value{number(1)}}},
		"untyped object": {SQL: insertItem, Params: dialect.Params{Named: named{"id": number(1), "name": {Kind: dialect.Object, Text: "{}"}}}},
	} {
		_, faults := dialect.Compile(b.db.Dialect(), stmt)
		require.NotEmpty(t, faults, name)
		for _, f := range faults {
			require.Equal(t, contract.CodeParameter, f.Code, name)
			require.NotContains(t, f.Message, canary, name)
		}
	}
}

func testTypedParams(t *testing.T, h Harness) {
	require.NotEmpty(t, h.Params)
	b := setup(t, h)
	for _, c := range h.Params {
		t.Run(c.Name, func(t *testing.T) {
			stmt := dialect.Statement{SQL: c.SQL, Params: dialect.Params{Named: named{"value": c.Value}}}
			compiled, faults := dialect.Compile(b.db.Dialect(), stmt)
			if c.Code != "" && len(faults) > 0 {
				require.Equal(t, c.Code, faults[0].Code, faults)
				return
			}
			require.Empty(t, faults)
			set, err := b.db.Read(t.Context(), call(), compiled, objects())
			if c.Code != "" {
				requireError(t, err, db.ClassPermanent, c.Code)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.JSON, only(t, set, "v"))
		})
	}
}

// testTextParams sends texts that are easily damaged, and reads them back.
func testTextParams(t *testing.T, h Harness) {
	b := setup(t, h)
	for i, s := range []string{
		"", " ", "'; DROP TABLE item; --", `back\slash`, `"quoted"`, "line\nfeed\ttab", "astral 🦆 é ü ß 漢字", ":name ? $1 @p1",
		"null", "true", "1e3", "\u2028",
	} {
		b.exec("DELETE FROM item") // to some servers texts that differ in blanks at their end are one
		b.exec(insertItem, named{"id": number(i), "name": text(s)})
		got := b.value("SELECT id FROM item WHERE name = :name", "id", named{"name": text(s)})
		require.Equal(t, fmt.Sprint(i), got, "%q", s)
	}
}
