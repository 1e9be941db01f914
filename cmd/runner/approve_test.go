package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// TestDryRunAndApprove: a transaction is shown and rolled back, approved after a question, and never approved twice.
func TestDryRunAndApprove(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	w.withCatalog(map[string]string{"pay": payDefinition})
	startProcess(t, "serve", "--config", w.config).await("runner started")
	create := `{"statements":[{"sql":"CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount >= 0), note TEXT)"},{"sql":"INSERT INTO purses VALUES (7, 100, ''), (9, 0, '')"}]}`
	require.Equal(t, exitOK, w.run(create, "submit", "-d", "shop", "--kind", "transaction", "--file", "-").code)
	amounts := func() string {
		return w.run("", "submit", "-d", "shop", "--sql", "SELECT amount FROM purses ORDER BY id", "--json").out
	}
	file := filepath.Join(t.TempDir(), "close.json")
	body := `{"id":"close","effect":"exactly_once","statements":[{"sql":"UPDATE purses SET note = 'x'"},{"sql":"UPDATE purses SET amount = amount - :out ` + strings.Repeat(" ", 3000) + `WHERE id = 7 RETURNING id, amount","params":{"out":30},"expect_rows":1}],"max_affected":5}`
	require.NoError(t, os.WriteFile(file, []byte(body), 0o600))

	shown := w.run("", "submit", "-d", "shop", "--dry-run", file, "--id", "d1")
	require.Equal(t, exitOK, shown.code, "%s%s", shown.out, shown.err)
	for _, text := range []string{
		"rolled back", "statement 1: 2 rows affected", "UPDATE purses SET note = 'x'", "statement 2: 1 row affected", "70", "warning: statement 1 writes rows and returns none",
		"effect sha256:", "commit it with: runner approve shop d1",
		"  max_affected 5\n", strings.Repeat(" ", 3000) + "WHERE id = 7 RETURNING", `    params {"out":30}`, "    expect_rows 1\n",
	} {
		require.Contains(t, shown.out, text)
	}
	require.Contains(t, amounts(), `{"amount":100}`)
	require.Contains(t, w.run("", "result", "get", "shop", "d1").out, "commit it with: runner approve shop d1")
	var result client.Result
	w.run("", "submit", "-d", "shop", "--dry-run", file, "--id", "d2", "--json").json(t, &result)
	require.Contains(t, shown.out, result.EffectDigest)

	asks := w.run("", "approve", "shop", "d1")
	require.Equal(t, exitUsage, asks.code)
	require.Contains(t, asks.err, "--yes")
	require.Contains(t, asks.out, "UPDATE purses")
	other := w.run("", "approve", "shop", "d1", "--yes", "--digest", "sha256:"+strings.Repeat("0", 64))
	require.Equal(t, exitJob, other.code)
	require.Contains(t, other.err, "another effect")
	for line, says := range map[string]string{
		"approve shop nosuch --yes": "make a new one", "approve a.b d1": "", "submit -d shop --dry-run x --sql y": "leave --sql and --file out",
		"submit -d shop --kind health --dry-run x": "--dry-run is for transactions", "submit -d shop --dry-run x --at 2030-01-31T02:00:00Z": "leave --at",
	} {
		got := w.run("", strings.Fields(line)...)
		require.NotEqual(t, exitOK, got.code, line)
		require.Contains(t, got.err, says, line)
	}
	require.Contains(t, amounts(), `{"amount":100}`)

	approved := w.run("", "approve", "shop", "d1", "--yes", "--digest", result.EffectDigest, "--reason", "month's end")
	require.Equal(t, exitOK, approved.code, "%s%s", approved.out, approved.err)
	require.Contains(t, approved.out, "d1_approved")
	require.Contains(t, amounts(), `{"amount":70}`)
	require.Equal(t, exitOK, w.run("", "approve", "shop", "d1", "--yes").code, "the same approval has the same answer")
	require.Contains(t, amounts(), `{"amount":70}`)
	entries := w.run("", "audit", "ls", "--action", contract.AuditApprove, "--json").out
	require.Contains(t, entries, "month's end")
	require.Contains(t, entries, result.EffectDigest)

	changed := w.run("", "approve", "shop", "d2", "--yes")
	require.Equal(t, exitJob, changed.code)
	require.Contains(t, changed.out, "effect_changed")
	require.Eventually(t, func() bool { return w.deadLetters()["d2_approved"].DeadLetter != "" }, testTimeout, 20*time.Millisecond, "it is stored after the result")
	redriven := w.run("", "dead", "redrive", w.deadLetters()["d2_approved"].DeadLetter)
	require.NotEqual(t, exitOK, redriven.code)
	require.Contains(t, redriven.err, "make a new dry run")

	require.NoError(t, os.WriteFile(file, []byte(`{"params":{"from":7,"to":9,"amount":5}}`), 0o600))
	named := w.run("", "submit", "-d", "shop", "--kind", "call.pay", "--dry-run", file, "--id", "n1")
	require.Equal(t, exitOK, named.code, "%s%s", named.out, named.err)
	require.Contains(t, named.out, "dry run of pay: ")
	require.Contains(t, named.out, `  params {"from":7,"to":9,"amount":5}`)
	scripted := w.run("", "approve", "shop", "n1", "--yes", "--json")
	require.Equal(t, exitOK, scripted.code, scripted.err)
	var alone client.Result
	scripted.json(t, &alone) // standard output is the result alone
	require.Equal(t, "n1_approved", alone.JobID)
	require.Contains(t, scripted.err, "dry run of pay: ", "what is approved is shown beside it")
	require.Contains(t, amounts(), `{"amount":65}`)
	rejected := w.run("", "submit", "-d", "shop", "--dry-run", file)
	require.Equal(t, exitJob, rejected.code)
	require.Contains(t, rejected.out, "statements")
}

// Promise: with the permissions of docs/security.md, one user makes dry runs by the command line and another one approves them; neither does the other's
// part, sends another text or calls what writes, and a refusal by NATS ends the command.
func TestFourEyesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	user := func(name string, publish ...string) *server.User {
		return &server.User{Username: name, Password: name, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: append(publish, "$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.>")},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX." + name + ".>", "dbrunner.results.shop.>"}},
		}}
	}
	w := guardedWorld(t, user("maker", "dbrunner.jobs.shop.dry_run", "dbrunner.jobs.shop.dry_run.pay"),
		user("checker", "dbrunner.jobs.shop.approve", "dbrunner.jobs.shop.approve.pay", "dbrunner.audit.database.shop.approve"))
	folder := w.withCatalog(map[string]string{
		"pay": payDefinition, "amounts": "sql: SELECT amount FROM purses ORDER BY id\n",
		"create": "statements: [{sql: 'CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount >= 0), note TEXT)'}, {sql: \"INSERT INTO purses VALUES (7, 100, ''), (9, 0, '')\"}]\n",
	})
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	before, _, _ := strings.Cut(string(text), "    kinds: ")
	require.NoError(t, os.WriteFile(w.config, []byte(before+"    kinds: [call, dry_run, approve, health]\n    catalog: {folder: "+folder+"}\n"), 0o600))
	startProcess(t, "serve", "--config", w.config).await("runner started")
	as := func(t *testing.T, name string, args ...string) outcome {
		t.Helper()
		file := filepath.Join(t.TempDir(), name+".yaml")
		require.NoError(t, os.WriteFile(file, []byte("nats: {urls: ["+w.node.ClientURL()+"], user: "+name+", password: "+name+"}\n"), 0o600))
		return runCommand(t, "", append(args, "--config", file, "--inbox-prefix", "_INBOX."+name)...)
	}
	require.Equal(t, exitOK, w.run("", "call", "shop", "create").code)
	amounts := func() string { return w.run("", "call", "shop", "amounts", "--json").out }
	dir := t.TempDir()
	file := func(name, body string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
		return path
	}
	spend := file("spend.json", `{"statements":[{"sql":"UPDATE purses SET amount = amount - 30 WHERE id = 7 RETURNING id, amount"}]}`)
	pay := file("pay.json", `{"params":{"from":7,"to":9,"amount":5}}`)

	shown := as(t, "maker", "submit", "-d", "shop", "--dry-run", spend, "--id", "d1")
	require.Equal(t, exitOK, shown.code, "%s%s", shown.out, shown.err)
	require.Contains(t, shown.out, "runner approve shop d1")
	named := as(t, "maker", "submit", "-d", "shop", "--kind", "call.pay", "--dry-run", pay, "--id", "n1")
	require.Equal(t, exitOK, named.code, "%s%s", named.out, named.err)
	t.Run("refused", func(t *testing.T) { // each waits for an answer that NATS does not give
		for _, line := range []string{
			"maker approve shop d1 --yes --no-audit", "maker approve shop n1 --yes --no-audit", "maker call shop pay --params {}", "maker submit -d shop --kind transaction --file " + spend,
			"checker submit -d shop --kind transaction --file " + spend, "checker submit -d shop --dry-run " + spend + " --id d2", "checker call shop pay --params {}",
		} {
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				words := strings.Fields(line)
				refused := as(t, words[0], words[1:]...)
				require.NotEqual(t, exitOK, refused.code)
				require.Contains(t, refused.err, "dbrunner.jobs.shop.")
			})
		}
	})
	require.Contains(t, amounts(), `"rows":[{"amount":100},{"amount":0}]`)
	for _, id := range []string{"d1", "n1"} {
		approved := as(t, "checker", "approve", "shop", id, "--yes")
		require.Equal(t, exitOK, approved.code, "%s%s", approved.out, approved.err)
	}
	require.Contains(t, amounts(), `"rows":[{"amount":65},{"amount":5}]`)
}
