package sqlite_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
)

func options(t testing.TB) db.Options {
	t.Helper()
	return db.Options{
		Name: "demo", Namespace: "dbrunner", Runner: "test",
		ConnectionString: filepath.Join(t.TempDir(), "demo.db"),
		Ledger:           db.LedgerManage,
		Pool:             db.PoolOptions{Min: 1, Max: 4},
		Limits:           db.Limits{StatementTimeout: time.Minute, LockTimeout: 10 * time.Second},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Harness{
		Options: options,
		Open:    sqlite.Open,
		Unreachable: func(t testing.TB, opts db.Options) db.Options {
			opts.ConnectionString = filepath.Join(t.TempDir(), "no-such-secret-folder", "demo.db")
			return opts
		},
		Secret:       "no-such-secret-folder",
		SmallestPool: 2,
		Has:          dbtest.Features{SharedCommits: true, DeferredConstraints: true, Returning: true},
		SQL: dbtest.SQL{
			Positional: func(int) string { return "?" },
			Numbers:    numbers,
			Slow:       numbers(1 << 40),
			Same:       sameValue,
			DataError:  "SELECT json_extract('{}', :value) AS v",
		},
		Values:     values(),
		Params:     params(),
		RoundTrips: roundTrips(),
		Counted:    counted(), NotCountable: notCountable(),
		Leaks:   leaks(),
		Poisons: dbtest.SQLitePoisons(),
		Writes: []string{
			"INSERT INTO item (id, name) VALUES (70, 'x')",
			"WITH x AS (SELECT 71 AS id) INSERT INTO item (id, name) SELECT id, 'x' FROM x",
			"INSERT INTO item (id, name) VALUES (72, 'x') RETURNING id",
			"UPDATE item SET amount = 1",
		},
		Outside: []string{"VACUUM", "/* all of it */ vacuum main;"},
		Refused: []string{
			"VACUUM INTO 'copy.db'", "VACUUM main INTO 'copy.db'", "ATTACH DATABASE 'other.db' AS other", "DETACH DATABASE main", "PRAGMA foreign_keys = OFF",
			"END", "RELEASE a", "VACUUM",
		},
		Bypass: []string{
			"BEGIN", "COMMIT", "END TRANSACTION", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "ROLLBACK TO a",
			"ATTACH DATABASE ':memory:' AS other", "DETACH DATABASE main", "VACUUM", "VACUUM INTO 'copy.db'",
			"PRAGMA foreign_keys = OFF", "PRAGMA journal_mode = DELETE", "PRAGMA writable_schema = ON",
			"SELECT * FROM pragma_journal_mode('delete')", "PRAGMA page_size = 512", "PRAGMA user_version = 7", "SELECT load_extension('x')",
			"INSERT OR ROLLBACK INTO item (id, name) VALUES (1, 'taken')",
			"DELETE FROM dbrunner_ledger", "UPDATE dbrunner_ledger SET status = 'x'", "DROP TABLE dbrunner_ledger",
			"INSERT OR REPLACE INTO DBRUNNER_LEDGER (namespace) VALUES ('x')",
			"ALTER TABLE dbrunner_ledger RENAME TO gone", "ALTER TABLE dbrunner_ledger ADD COLUMN x",
			"CREATE TRIGGER x BEFORE INSERT ON dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END",
			"CREATE TEMP TRIGGER x BEFORE INSERT ON main.dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END",
			"CREATE TEMP TABLE dbrunner_ledger (x)", "CREATE TEMP VIEW dbrunner_ledger AS SELECT 1 AS x",
			"CREATE UNIQUE INDEX x ON dbrunner_ledger (namespace)",
			"UPDATE sqlite_schema SET sql = NULL", "UPDATE sqlite_dbpage SET data = x'00'",
			"SELECT 1 AS n;;SELECT 2 AS n", "SELECT 1 AS n; /* and */ SELEC", "", "-- nothing",
		},
	})
}

func numbers(count int) string {
	return "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < " + strconv.Itoa(count) +
		") SELECT n FROM r"
}

// values are the five storage classes, at their edges.
func values() []dbtest.ValueCase {
	list := []dbtest.ValueCase{
		{Name: "null", SQL: "NULL", JSON: `null`},
		{Name: "zero", SQL: "0", JSON: `0`},
		{Name: "negative", SQL: "-1", JSON: `-1`},
		{Name: "largest exact", SQL: "9007199254740991", JSON: `9007199254740991`},
		{Name: "smallest exact", SQL: "-9007199254740991", JSON: `-9007199254740991`},
		{Name: "beyond exact", SQL: "9007199254740992", JSON: `{"type":"integer","value":"9007199254740992"}`},
		{Name: "below exact", SQL: "-9007199254740992", JSON: `{"type":"integer","value":"-9007199254740992"}`},
		{Name: "largest", SQL: "9223372036854775807", JSON: `{"type":"integer","value":"9223372036854775807"}`},
		{Name: "smallest", SQL: "-9223372036854775807 - 1", JSON: `{"type":"integer","value":"-9223372036854775808"}`},
		{Name: "real that is whole", SQL: "1.0", JSON: `1.0`},
		{Name: "real", SQL: "0.1", JSON: `0.1`},
		{Name: "real sum", SQL: "0.1 + 0.2", JSON: `0.30000000000000004`},
		{Name: "real large", SQL: "1e21", JSON: `1e+21`},
		{Name: "real huge", SQL: "1.7976931348623157e308", JSON: `1.7976931348623157e+308`},
		{Name: "real tiny", SQL: "5e-324", JSON: `5e-324`},
		{Name: "real beyond exact", SQL: "9007199254740992.0", JSON: `9.007199254740992e+15`},
		{Name: "infinity", SQL: "9e999", JSON: `{"type":"real","value":"Infinity"}`},
		{Name: "negative infinity", SQL: "-9e999", JSON: `{"type":"real","value":"-Infinity"}`},
		{Name: "not a number is null", SQL: "9e999 - 9e999", JSON: `null`},
		{Name: "text", SQL: "'abc'", JSON: `"abc"`},
		{Name: "text empty", SQL: "''", JSON: `""`},
		{Name: "text of digits", SQL: "'9007199254740993'", JSON: `"9007199254740993"`},
		{Name: "text astral", SQL: "'🦆 漢字'", JSON: `"🦆 漢字"`},
		{Name: "text escapes", SQL: `'"\' || char(10) || char(1) || 'x'`, JSON: `"\"\\\n\u0001x"`},
		{Name: "text with NUL", SQL: `'a' || char(0) || 'x'`, JSON: `{"type":"text_base64","value":"YQB4"}`},
		{Name: "text not UTF-8", SQL: "CAST(x'ff41' AS TEXT)", JSON: `{"type":"text_base64","value":"/0E="}`},
		{Name: "blob", SQL: "x'00ff'", JSON: `{"type":"blob","value":"AP8="}`},
		{Name: "blob empty", SQL: "x''", JSON: `{"type":"blob","value":""}`},
	}
	for i := range list {
		list[i].SQL = "SELECT " + list[i].SQL + " AS v"
	}
	return list
}

func params() []dbtest.ParamCase {
	const echo = "SELECT :value AS v"
	const class = "SELECT typeof(:value) || ' ' || quote(:value) AS v"
	typed := func(name, text string) dialect.Value {
		return dialect.Value{Kind: dialect.String, Type: name, Text: text}
	}
	number := func(text string) dialect.Value { return dialect.Value{Kind: dialect.Number, Text: text} }
	return []dbtest.ParamCase{
		{Name: "null", SQL: class, Value: dialect.Value{Kind: dialect.Null, Text: "null"}, JSON: `"null NULL"`},
		{Name: "typed null", SQL: class, Value: dialect.Value{Kind: dialect.Null, Type: "integer", Text: "null"}, JSON: `"null NULL"`},
		{Name: "true", SQL: class, Value: dialect.Value{Kind: dialect.Bool, Text: "true"}, JSON: `"integer 1"`},
		{Name: "false", SQL: class, Value: dialect.Value{Kind: dialect.Bool, Text: "false"}, JSON: `"integer 0"`},
		{Name: "integer", SQL: class, Value: number("-5"), JSON: `"integer -5"`},
		{Name: "largest", SQL: echo, Value: number("9223372036854775807"), JSON: `{"type":"integer","value":"9223372036854775807"}`},
		{Name: "too large", SQL: echo, Value: number("9223372036854775808"), Code: contract.CodeParameter},
		{Name: "fraction", SQL: class, Value: number("1.0"), JSON: `"real 1.0"`},
		{Name: "exponent", SQL: class, Value: number("1e2"), JSON: `"real 100.0"`},
		{Name: "beyond a double", SQL: echo, Value: number("1e400"), Code: contract.CodeParameter},
		{Name: "text", SQL: class, Value: dialect.Value{Kind: dialect.String, Text: "1"}, JSON: `"text '1'"`},
		{Name: "typed integer", SQL: class, Value: typed("integer", "9007199254740993"), JSON: `"integer 9007199254740993"`},
		{Name: "whole number", SQL: class, Value: dialect.Value{Kind: dialect.Number, Type: "integer", Text: "5.0"}, JSON: `"integer 5"`},
		{Name: "no whole number", SQL: echo, Value: dialect.Value{Kind: dialect.Number, Type: "integer", Text: "5.5"}, Code: contract.CodeParameter},
		{Name: "modifier", SQL: echo, Value: typed("varchar(3)", "abcdef"), Code: contract.CodeParameter},
		{Name: "bad integer", SQL: echo, Value: typed("integer", "1.5"), Code: contract.CodeParameter},
		{Name: "typed real", SQL: class, Value: dialect.Value{Kind: dialect.Number, Type: "real", Text: "1"}, JSON: `"real 1.0"`},
		{Name: "infinity", SQL: echo, Value: typed("real", "-Infinity"), JSON: `{"type":"real","value":"-Infinity"}`},
		{Name: "not a number", SQL: echo, Value: typed("real", "NaN"), Code: contract.CodeParameter},
		{Name: "typed text", SQL: class, Value: typed("text", "a"), JSON: `"text 'a'"`},
		{Name: "blob", SQL: class, Value: typed("blob", "AP8="), JSON: `"blob X'00FF'"`},
		{Name: "empty blob", SQL: class, Value: typed("blob", ""), JSON: `"blob X''"`},
		{Name: "bad blob", SQL: echo, Value: typed("blob", "%"), Code: contract.CodeParameter},
		{Name: "bytes as text", SQL: echo, Value: typed("text_base64", "/0E="), JSON: `{"type":"text_base64","value":"/0E="}`},
		{
			Name: "json", SQL: "SELECT json_extract(:value, '$.a[1]') AS v",
			Value: dialect.Value{Kind: dialect.Object, Type: "json", Text: `{"a":[1,2]}`}, JSON: `2`,
		},
		{Name: "bad json", SQL: echo, Value: typed("json", "{"), Code: contract.CodeParameter},
		{Name: "unknown type", SQL: echo, Value: typed("uuid", "x"), Code: contract.CodeParameter},
	}
}

func leaks() []dbtest.Leak {
	return []dbtest.Leak{
		{Name: "pragma", Set: []string{"PRAGMA case_sensitive_like = ON"}, Look: "SELECT 'A' LIKE 'a' AS v"},
		{
			Name: "foreign keys off", Set: []string{"PRAGMA foreign_keys = OFF"},
			Look: "INSERT INTO part (id, item_id) VALUES (1, 424242) RETURNING id AS v",
		},
		{
			Name: "row id", Set: []string{"INSERT INTO item (id, name) VALUES (77, 'x')", "DELETE FROM item"},
			Look: "SELECT last_insert_rowid() AS v",
		},
		{Name: "temporary table", Set: []string{"CREATE TEMP TABLE scratch AS SELECT 1 AS v"}, Look: "SELECT v FROM scratch"},
		{
			Name: "temporary table before a real one",
			Set:  []string{"CREATE TEMP TABLE item AS SELECT 1 AS id, 'x' AS name"},
			Look: "SELECT count(*) AS v FROM item",
		},
		{Name: "temporary view", Set: []string{"CREATE TEMP VIEW scratch AS SELECT 1 AS v"}, Look: "SELECT v FROM scratch"},
		{
			Name: "temporary trigger",
			Set:  []string{"CREATE TEMP TRIGGER scratch AFTER INSERT ON item BEGIN DELETE FROM item; END"},
			Look: "SELECT count(*) AS v FROM sqlite_temp_schema",
		},
		{Name: "attached database", Set: []string{"ATTACH ':memory:' AS other"}, Look: "SELECT count(*) AS v FROM other.sqlite_schema"},
	}
}
