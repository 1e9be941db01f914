package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/app"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

const payDefinition = `params:
  from: {schema: {type: integer}}
  to: {schema: {type: integer}}
  amount: {schema: {type: integer, minimum: 1}, default: 1}
max_affected: 2
statements:
  - {sql: "UPDATE accounts SET balance = balance - :amount WHERE id = :from", expect_rows: 1}
  - {sql: "UPDATE accounts SET balance = balance + :amount WHERE id = :to", expect_rows: 1}
`

// catalogOf writes a catalog and configures it.
func catalogOf(t *testing.T, folder string, files map[string]string, kinds ...string) func(*config.Database) {
	t.Helper()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o600))
	}
	return func(d *config.Database) {
		d.Catalog.Folder, d.Kinds = folder, kinds
		onTestServer(d)
	}
}

// Promises: a call has one effect under an id, also across an edited definition; what the catalog does not have, or its schemas
// refuse, is rejected and on record; and a database with calls alone takes no SQL.
func TestCalls(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, database string) {
		w, folder := setup(t), t.TempDir()
		files := map[string]string{"pay": payDefinition, "balance": "params: {id: {schema: {type: integer}}}\nsql: SELECT balance FROM accounts WHERE id = :id\n"}
		all := w.config("r1", withDatabase("bank", engine, database, catalogOf(t, folder, files, "transaction", "call")))
		r := w.start(all)
		w.do("bank", "transaction", "create", `"statements":[{"sql":"CREATE TABLE accounts (id integer PRIMARY KEY, balance integer)"},{"sql":"INSERT INTO accounts VALUES (7, 100), (9, 0)"}]`)

		paid := w.do("bank", "call.pay", "p1", `"params":{"from":7,"to":9,"amount":30}`)
		require.Equal(t, "succeeded", paid.Status, "%+v", paid.Error)
		require.Equal(t, "exactly_once", paid.Effect)
		require.Contains(t, string(w.stored("bank", "p1")), `"call":{"name":"pay","revision":"`)
		require.EqualValues(t, []any{map[string]any{"balance": float64(70)}}, w.do("bank", "call.balance", "b1", `"params":{"id":7}`).Rows)

		wrong := w.do("bank", "call.pay", "w1", `"params":{"from":7,"to":9,"amont":30}`)
		require.Equal(t, "rejected", wrong.Status)
		require.Equal(t, "params.amont", wrong.Error.Faults[0].Path)
		require.Contains(t, string(w.stored("bank", "w1")), `did you mean \"amount\"?`)
		require.Equal(t, "unknown_call", w.do("bank", "call.pya", "u1", `"params":{}`).Error.Code)
		require.Contains(t, string(w.stored("bank", "u1")), `did you mean pay?`)

		// Another runner's newer catalog cannot execute what this one has rejected.
		r.end(t)
		newer := catalogOf(t, folder, map[string]string{"pay": payDefinition + "description: edited\n", "pya": payDefinition}, "call")
		w.start(w.config("r2", withDatabase("bank", engine, database, newer)))
		again, sub := w.inbox()
		w.publish("bank", "call.pay", `{"id":"p1","reply_to":"`+again+`","params":{"amount":30, "to":9,"from":7}}`)
		repeated := w.next(sub)
		require.True(t, repeated.Duplicate, "the request does not cover the definition")
		require.Equal(t, "succeeded", repeated.Status)
		other, sub := w.inbox()
		w.publish("bank", "call.pay", `{"id":"p1","reply_to":"`+other+`","params":{"amount":31, "to":9,"from":7}}`)
		require.Equal(t, "job_id_reused", w.next(sub).Error.Code)
		refused, sub := w.inbox()
		w.publish("bank", "call.pya", `{"id":"u1","reply_to":"`+refused+`","params":{}}`)
		require.Equal(t, "unknown_call", w.next(sub).Error.Code, "it is on record")
		require.Equal(t, "kind_not_allowed", w.do("bank", "transaction", "raw", `"statements":[{"sql":"DELETE FROM accounts"}]`).Error.Code)
		require.EqualValues(t, []any{map[string]any{"balance": float64(70)}}, w.do("bank", "call.balance", "b2", `"params":{"id":7}`).Rows)

		answer, err := w.nc.Request("dbrunner.api.run.bank.call.pay", []byte(`{"id":"api","params":{"from":7,"to":9}}`), testTimeout)
		require.NoError(t, err)
		require.Equal(t, "succeeded", parse(t, answer.Data).Status, "%s", answer.Data)
	})
}

// Promise: check --connect finds a statement that its server refuses, by its name and its place, and runs none of them.
func TestCheckOfACatalog(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, database string) {
		w := setup(t)
		files := map[string]string{
			"pay": payDefinition, "balance": "params: {id: {schema: {type: integer}}}\nsql: SELECT balance FROM accounts WHERE id = :id\n",
			"one": "sql: SELECT 1 AS n\n",
		}
		of := withDatabase("bank", engine, database, catalogOf(t, t.TempDir(), files, "transaction", "query", "call"))
		require.NotContains(t, checked(t, w.config("r2", of)), "not compared", "no runner has started yet")
		w.start(w.config("r1", of))
		found := checked(t, w.config("r2", of))
		for _, refused := range []string{"pay, statements[0]: ", "pay, statements[1]: ", "balance: "} {
			require.Contains(t, found, "catalog fault "+refused)
		}
		require.NotContains(t, found, "catalog fault one")
		w.do("bank", "transaction", "create", createBank)
		found = checked(t, w.config("r2", of))
		require.Contains(t, found, "catalog ok the server accepts all of 3 statements")
		require.Contains(t, w.balances("bank", "untouched"), "[7 100]")

		w.do("bank", "transaction", "change", `"statements":[{"sql":"DROP TABLE accounts"},{"sql":"CREATE TABLE accounts (id integer PRIMARY KEY, money integer)"}]`)
		found = checked(t, w.config("r2", of))
		require.Contains(t, found, "catalog fault balance: ")
		require.NotContains(t, found, "accepts all")
	})
}

// Promise: a runner starts on a topology without calls, and runs them without a restart once they are added.
func TestCallsAreTurnedOnWithoutARestart(t *testing.T) {
	t.Parallel()
	w, file := setup(t), filepath.Join(t.TempDir(), "bank.db")
	before := w.start(w.config("r0", withDatabase("bank", "sqlite", file)))
	before.end(t)
	on := catalogOf(t, t.TempDir(), map[string]string{"one": "sql: SELECT 1 AS n\n"}, "query", "call")
	cfg := w.config("r1", withDatabase("bank", "sqlite", file, on))
	w.start(cfg)
	_, err := w.js.Publish(t.Context(), "dbrunner.jobs.bank.call.one", []byte(`{"id":"a"}`), jetstream.WithRetryAttempts(0))
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse)
	require.Equal(t, "succeeded", w.do("bank", "query", "q", `"sql":"SELECT 1 AS n"`).Status)
	awaitTopology(w, "differs", "dbrunner.jobs.bank.call.*", "degraded")
	maker, _ := w.client("maker", withDatabase("bank", "sqlite", file))
	changes, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	require.Equal(t, "succeeded", w.do("bank", "call.one", "a", `"labels":{}`).Status)
	awaitTopology(w, "", "", "healthy")
}

func TestACatalogNeedsItsKind(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "bank.db")
	for text, change := range map[string]func(*config.Database){
		"catalog.folder is missing":     func(d *config.Database) { d.Kinds = []string{"call"} },
		"kinds does not name call":      func(d *config.Database) { d.Catalog.Folder = t.TempDir() },
		"is no folder that can be read": func(d *config.Database) { d.Kinds, d.Catalog.Folder = []string{"call"}, "nosuch" },
		"the folder has no statements":  func(d *config.Database) { d.Kinds, d.Catalog.Folder = []string{"call"}, t.TempDir() },
	} {
		r := w.launch(app.Options{Config: w.config("r1", withDatabase("bank", "sqlite", file, change))})
		require.ErrorContains(t, r.fails(t), text)
	}
}

// Promises: a pause of the database stops its calls too; calls in flight are listed by name; and the definitions are shown to those
// who ask.
func TestCallsArePausedListedAndDescribed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	sleep := map[string]string{"sleep": "params: {seconds: {type: float8}}\nsql: SELECT 1 AS n FROM pg_sleep(:seconds)\n"}
	r := w.start(w.config("r1", withHTTP, withDatabase("bank", "postgres", dbtest.Postgres(t), catalogOf(t, t.TempDir(), sleep, "call", "health"))))
	job, err := (&client.Call{Database: "bank", Name: "sleep", ID: "long", Params: map[string]any{"seconds": 60}, Options: map[string]any{"timeout": "2m"}}).Job()
	require.NoError(t, err)
	_, err = w.newClient().Submit(t.Context(), job)
	require.NoError(t, err)
	found := w.awaitRunning(func(r *client.Running) bool { return len(r.Jobs) == 1 && r.Jobs[0].State == contract.JobExecuting }, "bank")
	require.Equal(t, "call", found.Jobs[0].Kind)
	require.Equal(t, "sleep", found.Jobs[0].Call)

	w.pause("bank", "r1")
	w.publish("bank", "call.sleep", `{"id":"waits","params":{"seconds":0}}`)
	answer := w.request("run.bank.call.sleep", `{"id":"asked","params":{"seconds":0}}`, "Dbrunner-Wait", "300ms")
	require.Contains(t, answer.text, "paused by ada", "the request gets the reason why there is no answer")
	require.Nil(t, w.stored("bank", "waits"))
	require.Equal(t, "cancelled", w.cancel(t, "bank", "long", "30s").Outcome)
	h := w.awaitPaused("bank", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Running != nil && *h.Running == 0 })
	require.Nil(t, w.stored("bank", "waits"), "nothing starts when its slot is free")
	w.resume("bank")
	require.Equal(t, "succeeded", w.await("bank", "waits").Status)
	require.Equal(t, "succeeded", w.await("bank", "asked").Status)

	catalog, err := client.ReadCatalog(t.Context(), w.newClient(), "bank")
	require.NoError(t, err)
	require.Equal(t, h.Catalog, catalog.Hash)
	require.Len(t, catalog.Calls, 1)
	require.JSONEq(t, `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"seconds":{}},"required":["seconds"],"additionalProperties":false}`, string(catalog.Calls[0].Schema))
	requireSchema(t, "answer-calls", w.request("calls.bank", "").body)
	require.Contains(t, string(w.request("calls.bank", `{"before":"x"}`).body), "invalid_body")
	r.expect(t, map[string]float64{
		"dbrunner_catalog_info database=bank,hash=" + h.Catalog: 1, "dbrunner_calls_total call=sleep,status=succeeded": 2, "dbrunner_calls_total call=sleep,status=cancelled": 1,
	})
	w.do("bank", "call.slep", "typo", `"labels":{}`)
	r.expect(t, map[string]float64{"dbrunner_calls_total call=other,status=rejected,code=unknown_call": 1})
}

// Promise: permission for one call is permission for no other one and for no SQL, neither by the stream nor by the run endpoint.
func TestPermissionForOneCall(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(users []*server.User) {
		for _, u := range users {
			switch u.Username {
			case "publisher": // may pay, and nothing else
				u.Permissions.Publish.Allow = []string{"dbrunner.jobs.bank.call.pay"}
			case "flow": // what a permission for all kinds covers
				u.Permissions.Publish.Allow = append(u.Permissions.Publish.Allow, "dbrunner.jobs.bank.*", "dbrunner.api.run.bank.call.pay")
			case "topology": // may do all
				u.Permissions = nil
			}
		}
	})
	files := map[string]string{"pay": "statements: [{sql: INSERT INTO t VALUES (1)}]\n", "refund": "statements: [{sql: DELETE FROM t}]\n"}
	w.start(w.signedIn("r1", "topology", withDatabase("bank", "sqlite", filepath.Join(t.TempDir(), "bank.db"), catalogOf(t, t.TempDir(), files, "call", "transaction", "query"))))
	payer, flow, boss := w.as("publisher"), w.as("flow"), w.as("topology")
	require.Equal(t, "succeeded", boss.do("bank", "transaction", "create", `"statements":[{"sql":"CREATE TABLE t (n INTEGER)"}]`).Status)
	payer.publish("bank", "call.pay", `{"id":"paid"}`)
	require.Equal(t, "succeeded", boss.await("bank", "paid").Status)
	payer.mayNot([]string{
		"dbrunner.jobs.bank.call.refund", "dbrunner.jobs.bank.transaction", "dbrunner.jobs.bank.query", "dbrunner.jobs.bank.call", "dbrunner.api.run.bank.call.pay", "dbrunner.api.calls.bank",
	}, nil)
	flow.mayNot([]string{"dbrunner.jobs.bank.call.pay", "dbrunner.jobs.bank.call.refund", "dbrunner.api.run.bank.call.refund"}, nil)
	answer, err := flow.nc.Request("dbrunner.api.run.bank.call.pay", []byte(`{"id":"asked"}`), testTimeout)
	require.NoError(t, err)
	require.Equal(t, "succeeded", parse(t, answer.Data).Status, "%s", answer.Data)
	require.EqualValues(t, []any{map[string]any{"n": float64(2)}}, boss.do("bank", "query", "rows", `"sql":"SELECT count(*) AS n FROM t"`).Rows)
}
