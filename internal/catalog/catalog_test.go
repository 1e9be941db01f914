package catalog_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/catalog"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/db/sqlserver"
)

const pay = `description: Move money
params:
  from: {type: integer, schema: {type: integer, minimum: 1}}
  to: {type: integer, schema: {$ref: "#/$defs/id", $defs: {id: {type: integer, minimum: 1}}}}
  amount:
    type: numeric(12,2)
    schema: {type: string, pattern: '^[0-9]+\.[0-9]{2}$'}
    default: "1.00"
    description: in euros
timeout: 5s
isolation: serializable
statements:
  - sql: UPDATE accounts SET balance = balance - :amount WHERE id = :from
    expect_rows: 1
  - sql: UPDATE accounts SET balance = balance + :amount WHERE id = :to
    expect_rows: {min: 1}
`

func load(files map[string]string) (*catalog.Catalog, error) {
	folder := fstest.MapFS{}
	for name, text := range files {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return catalog.Load(folder, "catalog/shop", dialect.Postgres())
}

func loaded(t *testing.T, files map[string]string) *catalog.Catalog {
	t.Helper()
	c, err := load(files)
	require.NoError(t, err)
	return c
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c := loaded(t, map[string]string{"pay.yaml": pay, "orders.yaml": "sql: SELECT 1 AS n\nmax_rows: 10\n", "README.md": "about"})
	require.Equal(t, []string{"orders", "pay"}, c.Names())
	s := c.Statement("pay")
	require.False(t, s.Query)
	require.Equal(t, "serializable", s.Isolation)
	require.Equal(t, 5*time.Second, s.Timeout)
	require.Equal(t, []string{"amount", "from"}, s.Texts[0].Params)
	require.Equal(t, &catalog.Expect{Min: 1, Max: 1}, s.Texts[0].Expect)
	require.Equal(t, &catalog.Expect{Min: 1, Max: -1}, s.Texts[1].Expect)
	require.True(t, c.Statement("orders").Query)
	require.EqualValues(t, 10, c.Statement("orders").MaxRows)
	require.Nil(t, c.Statement("refund"))
	var none *catalog.Catalog
	require.Nil(t, none.Statement("pay"), "a database without a catalog has no statements")
}

// Promise: one report has all errors of all files, each with its file, its line and what to write.
func TestAllErrorsOfAllFiles(t *testing.T) {
	t.Parallel()
	_, err := load(map[string]string{
		"a.yaml":      "sql: SELECT :n AS n\ndescripton: typo\n",
		"b.yaml":      "sql: SELECT :amont AS n\nparams:\n  amount: {type: integer}\n",
		"c.yaml":      "sql: SELECT 1; SELECT 2\n",
		"d.yaml":      "sql: SELECT :n AS n\nparams:\n  n:\n    schema: {type: nosuch}\n",
		"e.yaml":      "sql: SELECT :n AS n\nparams:\n  n:\n    schema: {$ref: 'https://example.com/n'}\n",
		"f.yaml":      "sql: DELETE FROM t\n",
		"g.yaml":      "sql: SELECT $1 AS n\n",
		"h.yaml":      "sql: SELECT :n AS n\nparams:\n  n: {schema: {type: integer}, default: x}\n",
		"i.yaml":      "description: nothing\n",
		"j.yaml":      "statements:\n  - sql: COMMIT\n",
		"k.yaml":      "sql: SELECT 1\nsql: SELECT 2\n",
		"v.yaml":      "statements:\n  - sql: DELETE FROM t\n  - sql: |\n      DELETE FROM t;\n      DELETE FROM u\n",
		"w.yaml":      "statements: [{sql: 'LOAD ''x'''}]\n",
		"l.yaml":      "sql: [1\n",
		"m.yaml":      "sql: &a SELECT 1\n",
		"n.yaml":      "sql: SELECT 1\ntimeout: 5\nmax_rows: 0\nisolation: serializable\n",
		"o.yaml":      "",
		"p.yaml":      "statements:\n  - sql: UPDATE t SET a = 1\n    expect_rows: {min: 2, max: 1}\n",
		"Bad.yaml":    "sql: SELECT 1\n",
		"readme.txt":  "x",
		"works.yaml":  "sql: SELECT 1 AS n\n",
		"s.yaml":      "sql: SELECT :n AS n\nparams:\n  n: {schema: {$schema: 'http://json-schema.org/draft-07/schema#'}}\n",
		"tagged.yaml": "sql: !secret SELECT 1\n",
		"u.yaml":      "sql: SELECT :request_id AS n\nparams:\n  request_id: {}\n",
	})
	for _, line := range []string{
		`catalog/shop/Bad.yaml: a statement's name is 1 to 64 characters of a-z 0-9 _: rename the file`,
		`catalog/shop/a.yaml:2: unknown key "descripton": did you mean "description"?`,
		`catalog/shop/b.yaml:1: the text names :amont, which params does not declare: did you mean :amount?`,
		`catalog/shop/b.yaml:3: no text names :amount: use the parameter, or remove it from params`,
		`catalog/shop/c.yaml:1: sql: one statement is expected, but more follow a semicolon: keep one, or write statements with one sql each, in the place of sql`,
		`catalog/shop/d.yaml:4: params.n.schema: is not valid in JSON Schema 2020-12: at '/type': value must be one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string'`,
		`catalog/shop/e.yaml:4: params.n.schema: a $ref stays in its schema: write #/$defs/… and the definition there`,
		`catalog/shop/f.yaml:1: sql: a read-only query starts with one of EXPLAIN, SELECT, SHOW, TABLE, VALUES, WITH: write statements in the place of sql for what changes data`,
		`catalog/shop/g.yaml:1: a statement's parameters have names: write :name in the place of ? and $1`,
		`catalog/shop/h.yaml:3: params.n.default: does not match its schema: "type" is "integer"`,
		`catalog/shop/i.yaml:1: "sql" (a query) or "statements" (a transaction) is required`,
		`catalog/shop/j.yaml:2: statements[0].sql: COMMIT: a job must not control transactions: remove it, the runner commits the statements together`,
		`catalog/shop/k.yaml:2: "sql" is duplicate: remove one of them`,
		`catalog/shop/v.yaml:3: statements[1].sql: one statement is expected, but more follow a semicolon: write one sql for each`,
		`catalog/shop/w.yaml:1: statements[0].sql: LOAD is not allowed in a job: remove it`,
		`catalog/shop/l.yaml:1: invalid YAML: `,
		`catalog/shop/m.yaml:1: anchors and aliases are not supported: write the value itself`,
		`catalog/shop/u.yaml:3: params.request_id: the name is that of an argument of every tool of runner mcp: take another name`,
		`catalog/shop/n.yaml:2: timeout: write a duration above zero, such as 30s or 1m30s`,
		`catalog/shop/n.yaml:3: max_rows: write a whole number of at least 1`,
		`catalog/shop/n.yaml:4: isolation: belongs to transactions: remove it`,
		`catalog/shop/o.yaml: is empty: write at least "sql: SELECT …"`,
		`catalog/shop/p.yaml:3: statements[0].expect_rows: min is larger than max`,
		`catalog/shop/readme.txt: is not a statement: name it <name>.yaml, or move it to another folder`,
		`catalog/shop/s.yaml:3: params.n.schema: $schema: write https://json-schema.org/draft/2020-12/schema, or leave it out`,
		`catalog/shop/tagged.yaml:1: tags such as !secret are not supported: write the plain value`,
	} {
		require.ErrorContains(t, err, line)
	}
	require.NotContains(t, err.Error(), "works.yaml")
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		require.Regexp(t, `^  catalog/shop/\w+\.\w+(:\d+)?: .|^invalid catalog \(\d+\):$`, line, "each line has its place")
	}
	_, err = load(nil)
	require.ErrorContains(t, err, "catalog/shop: the folder has no statements")
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	files := func(name string) (statement, param map[string]string) {
		return map[string]string{name + ".yaml": "sql: SELECT 1 AS n\n"}, map[string]string{"a.yaml": "sql: SELECT :" + name + " AS n\nparams:\n  " + name + ": {}\n"}
	}
	longest := strings.Repeat("n", 64)
	statement, param := files(longest)
	require.NotNil(t, loaded(t, statement).Statement(longest))
	require.Equal(t, longest, loaded(t, param).Statement("a").Params[0].Name)
	statement, param = files(longest + "n")
	_, err := load(statement)
	require.ErrorContains(t, err, "1 to 64 characters of a-z 0-9 _: rename the file")
	_, err = load(param)
	require.ErrorContains(t, err, "digits and _, 64 at most")
}

// Promise: a type that the engine does not have is found when the file is read, where it is declared and once, on the engines that know theirs
// without a server; and a value that has no such type is wrong once, however many texts name it.
func TestTypesOfTheEngine(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"pay.yaml": {Data: []byte("params:\n  id: {type: nosuch}\n  n: {}\nstatements:\n  - sql: DELETE FROM t WHERE id = :id\n  - sql: DELETE FROM u WHERE id = :id AND n = :n\n")}}
	for engine, d := range map[string]*dialect.Dialect{"sqlite": sqlite.Dialect(), "sqlserver": sqlserver.Dialect()} {
		_, err := catalog.Load(files, "catalog", d)
		require.ErrorContains(t, err, "invalid catalog (1):\n  catalog/pay.yaml:2: params.id: unknown type: known are ", engine)
	}
	c, err := catalog.Load(fstest.MapFS{"pay.yaml": {Data: []byte(strings.Replace(string(files["pay.yaml"].Data), "nosuch", "integer", 1))}}, "catalog", sqlite.Dialect())
	require.NoError(t, err)
	_, faults := c.Statement("pay").Bind(sqlite.Dialect(), []catalog.Argument{
		{Name: "id", Value: dialect.Value{Kind: dialect.String, Text: "x"}, JSON: []byte(`"x"`)}, {Name: "n", Value: dialect.Value{Kind: dialect.Number, Text: "1"}, JSON: []byte("1")},
	})
	require.Len(t, faults, 1)
	require.Equal(t, "params.id", faults[0].Path)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := loaded(t, map[string]string{"pay.yaml": pay}).Statement("pay")
	arguments := func(pairs ...string) (out []catalog.Argument) {
		for i := 0; i < len(pairs); i += 2 {
			value := dialect.Value{Kind: dialect.Number, Text: pairs[i+1]}
			if text, err := strconv.Unquote(pairs[i+1]); err == nil {
				value = dialect.Value{Kind: dialect.String, Text: text}
			}
			out = append(out, catalog.Argument{Name: pairs[i], Value: value, JSON: []byte(pairs[i+1])})
		}
		return out
	}
	check := func(given []catalog.Argument) ([]*dialect.Compiled, []contract.Fault) {
		return s.Bind(dialect.Postgres(), given)
	}
	got, faults := check(arguments("to", "2", "from", "1"))
	require.Empty(t, faults)
	require.Equal(t, []dialect.Value{
		{Kind: dialect.String, Type: "numeric(12,2)", Text: "1.00"}, {Kind: dialect.Number, Type: "integer", Text: "1"},
	}, got[0].Args, "with the default")

	_, faults = check(arguments("from", "0", "amont", `"secret"`))
	require.Len(t, faults, 3)
	require.Equal(t, "params.amont", faults[0].Path)
	require.Equal(t, `unknown parameter: did you mean "amount"?`, faults[0].Message)
	require.Equal(t, "params.from", faults[1].Path)
	require.Equal(t, `does not match its schema: "minimum" is 1`, faults[1].Message)
	require.Equal(t, "params.to", faults[2].Path)
	require.Equal(t, "is required", faults[2].Message)

	_, faults = check(arguments("from", "1", "to", "0", "amount", `"secret"`))
	require.Len(t, faults, 2)
	require.Equal(t, `does not match its schema: "pattern" is "^[0-9]+\\.[0-9]{2}$"`, faults[0].Message, "the value is not repeated")
	require.Equal(t, `does not match its schema: "minimum" is 1`, faults[1].Message, "also through a $ref")
}

// Promise: defaults and schemas have the values that are written, which YAML would change.
func TestValuesAsWritten(t *testing.T) {
	t.Parallel()
	load := func(param string) (*catalog.Catalog, error) {
		return catalog.Load(fstest.MapFS{"a.yaml": {Data: []byte("sql: SELECT :n AS n\nparams:\n  n: " + param + "\n")}}, "catalog", dialect.SQLite())
	}
	for written, want := range map[string]string{
		"2026-01-31": `"2026-01-31"`, "2026-01-31T10:00:00+02:00": `"2026-01-31T10:00:00+02:00"`, `"0123"`: `"0123"`,
		"12345678901234567.89": "12345678901234567.89", "123456789012345678901234567890": "123456789012345678901234567890", "1.10": "1.10", "-7": "-7",
		"yes": `"yes"`, "True": "true", "~": "null", "[1, {a: 2026-01-31, b: 0.10}]": `[1,{"a":"2026-01-31","b":0.10}]`,
	} {
		c, err := load("{default: " + written + ", schema: {enum: [" + written + "]}}")
		require.NoError(t, err, written)
		p := c.Statement("a").Params[0]
		require.Equal(t, want, string(p.Default), written)
		require.Equal(t, `{"enum":[`+want+`]}`, string(p.Schema), written)
	}
	for _, written := range []string{"0123", "0x1F", "0b11", "1_000", "+5", ".5", ".inf", "{maximum: 0123}", "{1: 2}", "{a: 1, a: 2}", "{<<: {a: 1}}"} {
		for _, key := range []string{"default", "schema"} {
			_, err := load("{" + key + ": " + written + "}")
			require.ErrorContains(t, err, "catalog/a.yaml:3: params.n."+key+": ", written)
		}
	}
}

// Promise: a revision is that of the definition, not of the file's layout, and changes with every part of the definition.
func TestRevision(t *testing.T) {
	t.Parallel()
	revision := func(text string) string {
		c := loaded(t, map[string]string{"q.yaml": text})
		require.Len(t, c.Hash(), 12)
		return c.Statement("q").Revision
	}
	first := revision("sql: SELECT :n AS n\nparams: {n: {schema: {type: integer, minimum: 1}}}\n")
	require.Len(t, first, 12)
	require.Equal(t, first, revision("# a comment\nparams:\n  n:\n    schema:\n      minimum: 1\n      type: integer\nsql: 'SELECT :n AS n'\n"))
	seen := map[string]bool{first: true}
	for _, text := range []string{
		"sql: SELECT :n AS m\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
		"sql: SELECT :n AS n\nparams: {n: {schema: {type: integer, minimum: 2}}}\n",
		"sql: SELECT :n AS n\nparams: {n: {schema: {type: integer, minimum: 1}, default: 1}}\n",
		"sql: SELECT :n AS n\nparams: {n: {type: integer, schema: {type: integer, minimum: 1}}}\n",
		"sql: SELECT :n AS n\nmax_rows: 1\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
		"sql: SELECT :n AS n\ntimeout: 1s\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
		"max_affected: 1\nstatements: [{sql: SELECT :n AS n}]\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
		"statements: [{sql: SELECT :n AS n}]\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
		"statements: [{sql: SELECT :n AS n, expect_rows: 1}]\nparams: {n: {schema: {type: integer, minimum: 1}}}\n",
	} {
		require.False(t, seen[revision(text)], text)
		seen[revision(text)] = true
	}
}
