package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/jobs"
)

const payDefinition = `description: Move an amount
params:
  from: {type: integer, schema: {type: integer}}
  to: {type: integer, schema: {type: integer}}
  amount: {type: integer, schema: {type: integer, minimum: 1}, default: 1, description: in cents}
  note: {type: text, schema: {type: string}, default: ""}
max_affected: 2
statements:
  - {sql: "UPDATE purses SET amount = amount - :amount, note = :note WHERE id = :from", expect_rows: 1}
  - {sql: "UPDATE purses SET amount = amount + :amount WHERE id = :to", expect_rows: 1}
`

// withCatalog has shop run all kinds, with a catalog of these files, and returns its folder.
func (w *world) withCatalog(files map[string]string) string {
	w.t.Helper()
	folder := w.t.TempDir()
	for name, text := range files {
		require.NoError(w.t, os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o600))
	}
	w.config = w.amend("    kinds: [" + strings.Join(jobs.Kinds(), ", ") + "]\n    catalog: {folder: " + folder + "}\n")
	return folder
}

// TestCalls: the commands of calls, from the list to the dead letter that is redriven to the call.
func TestCalls(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	folder := w.withCatalog(map[string]string{"pay": payDefinition, "purse": "params: {id: {type: integer}}\nsql: SELECT amount, note FROM purses WHERE id = :id\n"})
	p := startProcess(t, "serve", "--config", w.config)
	p.await("runner started")
	code, found := checked(t, w.config, "--connect")
	require.Equal(t, exitFailure, code)
	has(t, found.Findings, "fault", "shop", "pay, statements[0]: ")
	has(t, found.Findings, "fault", "shop", "purse: ")
	require.Equal(t, 2, found.Databases[0].Calls)
	create := `{"statements":[{"sql":"CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount >= 0), note TEXT)"},{"sql":"INSERT INTO purses VALUES (7, 100, ''), (9, 0, '')"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "--kind", "transaction", "--file", "-").code)
	code, found = checked(t, w.config, "--connect")
	require.Equal(t, exitOK, code, "%+v", found.Findings)
	has(t, found.Findings, "ok", "shop", "the server accepts all of 2 statements; catalog "+found.Databases[0].Catalog)

	var listed client.Catalog
	w.run("", "call", "ls", "shop", "--json").json(t, &listed)
	require.Equal(t, found.Databases[0].Catalog, listed.Hash)
	require.Len(t, listed.Calls, 2)
	require.Contains(t, w.run("", "call", "ls", "shop").out, "Move an amount")
	shown := w.run("", "call", "show", "shop", "pay")
	require.Contains(t, shown.out, "(required)")
	require.Contains(t, shown.out, "in cents")
	require.NotContains(t, shown.out, "UPDATE", "the text stays in the runner")

	paid := w.run("", "call", "shop", "pay", "from=7", "to=9", "amount=30", "note=30", "--id", "pay-1", "--json")
	require.Equal(t, exitOK, paid.code, paid.err)
	require.Contains(t, paid.out, `"call":{"name":"pay","revision":"`+listed.Calls[0].Revision)
	require.Equal(t, paid.out, w.run("", "call", "shop", "pay", "--params", `{"from":7,"to":9,"amount":30,"note":"30"}`, "--id", "pay-1", "--json").out,
		"the same request: a text parameter is a text")
	require.Contains(t, w.run("", "call", "shop", "purse", "id=7", "--json").out, `"rows":[{"amount":70,"note":"30"}]`)

	refused := w.run("", "call", "shop", "pay", "from=7", "to=9", "amount=300", "--id", "pay-2")
	require.Equal(t, exitJob, refused.code)
	deadLetter := w.deadLetters()["pay-2"]
	require.True(t, strings.HasPrefix(deadLetter.DeadLetter, "shop.call."), deadLetter.DeadLetter)
	raise := `{"statements":[{"sql":"UPDATE purses SET amount = 300 WHERE id = 7"}]}`
	require.Equal(t, exitOK, w.run(raise, "submit", "-d", "shop", "--kind", "transaction", "--file", "-").code)
	require.Equal(t, exitOK, w.run("", "dead", "redrive", deadLetter.DeadLetter).code)
	again := w.run("", "call", "shop", "pay", "from=7", "to=9", "amount=300", "--id", "pay-2_r1")
	require.Equal(t, exitOK, again.code, "redriven to the call: %s %s", again.out, again.err)
	require.Contains(t, w.run("", "call", "shop", "purse", "id=7", "--json").out, `"rows":[{"amount":0,"note":""}]`)

	for line, says := range map[string]string{
		"call shop pay amont=3": "pay has no parameter amont; it has amount, from, note, to", "call shop pay from": `"from" is not name=value`,
		"call shop pay from=1 from=2": "is there twice", "call shop pay from=1 --params {}": "either as name=value or by --params",
		"call shop pay --params {": "is not JSON", "call shop pay": "", "call a.b pay": "the database is not", "call shop a.b": "the statement's name is not",
		"call show shop pya": "has no statement pya; runner call ls shop lists them", "call ls nosuch": "no runner has the database nosuch",
	} {
		got := w.run("", strings.Fields(line)...)
		require.NotEqual(t, exitOK, got.code, line)
		require.Contains(t, got.err, says, line)
	}
	require.Contains(t, w.run("", "call", "shop", "pya").out, "unknown_call")

	// A runner with another catalog is found by both.
	require.NoError(t, os.WriteFile(filepath.Join(folder, "purse.yaml"), []byte("params: {id: {type: integer}}\nsql: SELECT amount FROM purses WHERE id = :id\n"), 0o600))
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	code, found = checked(t, w.config, "--connect")
	require.Equal(t, exitOK, code)
	has(t, found.Findings, "note", "shop", "the folder here has the catalog ")
	second := filepath.Join(t.TempDir(), "second.yaml")
	require.NoError(t, os.WriteFile(second, []byte(strings.Replace(string(text), "instance: tester", "instance: second", 1)), 0o600))
	q := startProcess(t, "serve", "--config", second)
	q.await("runner started")
	require.Eventually(t, func() bool {
		_, found := checked(t, w.config, "--connect")
		for _, f := range found.Findings {
			if strings.Contains(f.Text, "the runners have different catalogs: ") && strings.Contains(f.Text, " on tester") {
				return f.Grade == "warning"
			}
		}
		return false
	}, testTimeout, pollEvery)
	require.Equal(t, exitOK, q.terminate(), "%s", q.output())
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

func TestCallParams(t *testing.T) {
	t.Parallel()
	definition := &contract.CallInfo{Name: "x", Schema: json.RawMessage(`{"properties":{"t":{"type":"string"},"n":{"type":"integer"},"a":{},"e":{"enum":["x","1"]}}}`)}
	for words, want := range map[string]string{
		"t=1": `{"t":"1"}`, "t=": `{"t":""}`, "n=1": `{"n":1}`, "n=x": `{"n":"x"}`, "a=null": `{"a":null}`, "a=[1,2]": `{"a":[1,2]}`, "a=1.50": `{"a":1.50}`,
		"a=x=y": `{"a":"x=y"}`, "e=x t=true": `{"e":"x","t":"true"}`,
	} {
		got, err := callParams(definition, strings.Fields(words))
		require.NoError(t, err, words)
		require.Equal(t, want, string(got))
	}
}

// TestExampleCatalog: PostgreSQL accepts every statement of the example, with the schema of its migrations.
func TestExampleCatalog(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	absolute := func(path ...string) string {
		t.Helper()
		folder, err := filepath.Abs(filepath.Join(append([]string{repository}, path...)...))
		require.NoError(t, err)
		return folder
	}
	w.config = w.amend("  rpa_db:\n    type: postgres\n    connection_string: \"" + dbtest.Postgres(t) + "\"\n    kinds: [call, health, migration]\n" +
		"    migrations: {folder: " + absolute("migrations", "rpa_db") + "}\n    catalog: {folder: " + absolute("examples", "catalog", "rpa_db") + "}\n")
	migrated := w.run("", "migrate", "up", "rpa_db")
	require.Equal(t, exitOK, migrated.code, migrated.err)
	_, found := checked(t, w.config, "--connect")
	has(t, found.Findings, "ok", "rpa_db", "the server accepts all of 6 statements")
}
