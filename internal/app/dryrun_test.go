package app_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// dryRunKinds is a database that takes raw SQL, calls, dry runs and approvals.
var dryRunKinds = []string{"transaction", "query", "call", "dry_run", "approve"}

// settled waits for the result of a job and reads all of it.
func (w *world) settled(database, kind, id, rest string) *contract.Result {
	w.t.Helper()
	w.publish(database, kind, fmt.Sprintf(`{"id":%q,%s}`, id, rest))
	return w.settledUnder(database, id)
}

// settledUnder reads the result of a job that has one.
func (w *world) settledUnder(database, id string) *contract.Result {
	w.t.Helper()
	w.await(database, id)
	r, err := contract.ReadResult(w.stored(database, id))
	require.NoError(w.t, err)
	return r
}

// approve approves a dry run as its result says, after something else.
func (w *world) approve(database, end string, of *contract.Result, before ...func()) *contract.Result {
	w.t.Helper()
	for _, f := range before {
		f()
	}
	return w.settled(database, end, contract.ApprovalID(of.JobID), approvalOf(of))
}

func approvalOf(of *contract.Result) string {
	return fmt.Sprintf(`"approves":%q,"expect_digest":%q`, of.JobID, of.EffectDigest)
}

// balances are the accounts of the tests and their money.
func (w *world) balances(database, id string) string {
	w.t.Helper()
	return fmt.Sprint(w.do(database, "query", id, `"sql":"SELECT id, balance FROM accounts ORDER BY id","row_format":"arrays"`).Rows)
}

func forEngines(t *testing.T, test func(t *testing.T, engine, connection string)) {
	t.Helper()
	for engine, connection := range map[string]func(*testing.T) string{
		"sqlite":    func(t *testing.T) string { return filepath.Join(t.TempDir(), "bank.db") },
		"postgres":  func(t *testing.T) string { return dbtest.Postgres(t) },
		"sqlserver": func(t *testing.T) string { return dbtest.SQLServer(t) },
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, engine, connection(t))
		})
	}
}

const createBank = `"statements":[{"sql":"CREATE TABLE accounts (id integer PRIMARY KEY, balance integer)"},{"sql":"INSERT INTO accounts VALUES (7, 100), (9, 0)"}]`

// spend is a transaction whose answer has what it changed.
const spend = `"statements":[{"sql":"UPDATE accounts SET balance = balance - 30 WHERE id = 7"},{"sql":"SELECT id, balance FROM accounts"}]`

// Promise: a pause of the database stops its dry runs and approvals, too; after it they run.
func TestDryRunsArePaused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("bank", "sqlite", filepath.Join(t.TempDir(), "bank.db"),
		catalogOf(t, t.TempDir(), map[string]string{"pay": payDefinition}, dryRunKinds...))))
	w.do("bank", "transaction", "create", createBank)
	shown := w.settled("bank", "dry_run", "d1", spend)

	w.pause("bank", "r1")
	w.publish("bank", "dry_run", `{"id":"waits",`+spend+`}`)
	w.publish("bank", "approve", fmt.Sprintf(`{"id":"d1_approved",%s}`, approvalOf(shown)))
	answer := w.request("run.bank.dry_run.pay", `{"id":"asked","params":{"from":7,"to":9,"amount":5}}`, "Dbrunner-Wait", "300ms")
	require.Contains(t, answer.text, "paused by ada")
	for _, id := range []string{"waits", "d1_approved", "asked"} {
		require.Nil(t, w.stored("bank", id), id)
	}
	w.resume("bank")
	for _, id := range []string{"waits", "d1_approved", "asked"} {
		require.Equal(t, contract.Succeeded, w.settledUnder("bank", id).Status, id)
	}
}

// Promises: a dry run shows its effect and leaves nothing; its approval commits that effect once, also if it is published again or
// under other ids; and an approval of anything else is rejected.
func TestDryRunsAndApprovals(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		w.start(w.config("r1", withDatabase("bank", engine, connection, catalogOf(t, t.TempDir(), map[string]string{"pay": payDefinition, "balance": "sql: SELECT balance FROM accounts\n"}, dryRunKinds...))))
		w.do("bank", "transaction", "create", createBank)
		untouched := w.balances("bank", "before")

		shown := w.settled("bank", "dry_run", "d1", spend)
		require.Equal(t, contract.Succeeded, shown.Status, "%+v", shown.Error)
		require.Equal(t, contract.RolledBack, shown.Effect)
		require.JSONEq(t, "{"+spend+"}", string(shown.Request))
		require.EqualValues(t, 1, *shown.Statements[0].RowsAffected)
		require.Contains(t, string(shown.Statements[1].Rows), "70")
		require.Contains(t, shown.EffectDigest, "sha256:")
		require.Equal(t, untouched, w.balances("bank", "after"))
		again := w.settled("bank", "dry_run", "d2", spend)
		require.Equal(t, shown.EffectDigest, again.EffectDigest)
		other := w.settled("bank", "dry_run", "d3", `"statements":[{"sql":"UPDATE accounts SET balance = balance - 30 WHERE id = 7 "},{"sql":"SELECT id, balance FROM accounts"}]`)
		require.NotEqual(t, shown.EffectDigest, other.EffectDigest, "the text is a part of it")

		named := w.settled("bank", "dry_run.pay", "n1", `"params":{"from":7,"to":9,"amount":5}`)
		require.Equal(t, contract.Succeeded, named.Status, "%+v", named.Error)
		require.Equal(t, "pay", named.Call.Name)
		require.Contains(t, string(named.Request), `"params":{"from":7,"to":9,"amount":5}`)
		require.Equal(t, untouched, w.balances("bank", "named"))
		failed := w.settled("bank", "dry_run", "f1", `"statements":[{"sql":"UPDATE accounts SET balance = 1","expect_rows":1}]`)
		require.Equal(t, contract.CodeExpectRows, failed.Error.Code)
		require.Empty(t, failed.EffectDigest)
		require.Equal(t, contract.CodeInvalidValue, w.settled("bank", "dry_run.balance", "q1", `"params":{}`).Error.Code)

		for id, c := range map[string]struct {
			end, rest string
			code      contract.Code
		}{
			"d1":             {"approve", approvalOf(shown), contract.CodeInvalidID},
			"d1-approved":    {"approve", approvalOf(shown), contract.CodeInvalidID},
			"d2_approved":    {"approve", approvalOf(shown), contract.CodeInvalidID},
			"d3_approved":    {"approve", fmt.Sprintf(`"approves":"d3","expect_digest":%q`, shown.EffectDigest), contract.CodeApprovalNotFound},
			"f1_approved":    {"approve", fmt.Sprintf(`"approves":"f1","expect_digest":%q`, shown.EffectDigest), contract.CodeApprovalNotFound},
			"none_approved":  {"approve", fmt.Sprintf(`"approves":"none","expect_digest":%q`, shown.EffectDigest), contract.CodeApprovalNotFound},
			"after_approved": {"approve", fmt.Sprintf(`"approves":"after","expect_digest":%q`, shown.EffectDigest), contract.CodeApprovalNotFound},
			"n1_approved":    {"approve", approvalOf(named), contract.CodeApprovalNotFound},
			"x_approved":     {"approve", `"approves":"x","expect_digest":"sha256:1"`, contract.CodeInvalidValue},
		} {
			if id == "d1" {
				continue // a result of its own is there
			}
			got := w.settled("bank", c.end, id, c.rest)
			require.Equal(t, contract.Rejected, got.Status, id)
			require.Equal(t, c.code, got.Error.Code, "%s: %+v", id, got.Error)
		}
		require.Equal(t, contract.CodeApprovalNotFound, w.settled("bank", "approve.pay", "d4_approved", approvalOf(w.settled("bank", "dry_run", "d4", spend))).Error.Code, "it names a statement")
		require.Equal(t, untouched, w.balances("bank", "refused"))

		approved := w.approve("bank", "approve", shown)
		require.Equal(t, contract.Succeeded, approved.Status, "%+v", approved.Error)
		require.Equal(t, contract.ExactlyOnce, approved.Effect)
		require.Empty(t, approved.EffectDigest)
		spent := w.balances("bank", "spent")
		require.Contains(t, spent, "70")
		reply, sub := w.inbox()
		w.publish("bank", "approve", `{"id":"d1_approved","reply_to":"`+reply+`",`+approvalOf(shown)+`}`)
		twice := w.next(sub)
		require.True(t, twice.Duplicate)
		require.Equal(t, "succeeded", twice.Status)
		require.Equal(t, spent, w.balances("bank", "twice"))
		requirePaid(t, w, w.settled("bank", "dry_run.pay", "n2", `"params":{"from":7,"to":9,"amount":5}`), spent)
	})
}

// requirePaid approves a dry run of a call, which has returned no rows, and one whose counts have changed since.
func requirePaid(t *testing.T, w *world, named *contract.Result, before string) {
	t.Helper()
	late := w.settled("bank", "dry_run", "late", `"statements":[{"sql":"UPDATE accounts SET balance = balance + 1 WHERE balance > 60"}]`)
	paid := w.approve("bank", "approve.pay", named)
	require.Equal(t, contract.Succeeded, paid.Status, "%+v", paid.Error)
	require.NotEqual(t, before, w.balances("bank", "paid"))
	w.do("bank", "transaction", "lower", `"statements":[{"sql":"UPDATE accounts SET balance = 10 WHERE id = 7"}]`)
	changed := w.approve("bank", "approve", late)
	require.Equal(t, contract.Failed, changed.Status)
	require.Equal(t, contract.CodeEffectChanged, changed.Error.Code)
	require.Contains(t, changed.Error.Message, "statements[0] affected 0 rows, and 1 in the dry run")
	require.NotContains(t, changed.Error.Message, "sha256")
}

// Promises: a change of a returned value between dry run and approval is found, and nothing is committed; the failure is on record,
// so that the same approval never succeeds later; and an edited definition is another effect.
func TestAnEffectThatChanged(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w, folder := setup(t), t.TempDir()
		r := w.start(w.config("r1", withDatabase("bank", engine, connection, catalogOf(t, folder, map[string]string{"pay": payDefinition}, dryRunKinds...))))
		w.do("bank", "transaction", "create", createBank)
		shown := w.settled("bank", "dry_run", "d1", spend)
		named := w.settled("bank", "dry_run.pay", "n1", `"params":{"from":7,"to":9,"amount":5}`)
		w.do("bank", "transaction", "other", `"statements":[{"sql":"UPDATE accounts SET balance = 3 WHERE id = 9"}]`)
		changed := w.approve("bank", "approve", shown)
		require.Equal(t, contract.Failed, changed.Status)
		require.Equal(t, contract.CodeEffectChanged, changed.Error.Code)
		require.Contains(t, changed.Error.Message, "but others")
		require.NotContains(t, string(w.stored("bank", "d1_approved")), "sha256", "who approves learns no digest that he could approve")
		require.Contains(t, w.balances("bank", "kept"), "100")
		w.do("bank", "transaction", "back", `"statements":[{"sql":"UPDATE accounts SET balance = 0 WHERE id = 9"}]`)
		reply, sub := w.inbox()
		w.publish("bank", "approve", `{"id":"d1_approved","reply_to":"`+reply+`",`+approvalOf(shown)+`}`)
		require.Equal(t, "effect_changed", w.next(sub).Error.Code, "it is on record")
		require.Contains(t, w.balances("bank", "still"), "100")
		require.NotContains(t, string(w.request("result.bank.d1_approved", "").body), "sha256")
		r.end(t)
		w.start(w.config("r2", withDatabase("bank", engine, connection, catalogOf(t, folder, map[string]string{"pay": payDefinition + "description: edited\n"}, dryRunKinds...))))
		require.Equal(t, contract.CodeEffectChanged, w.approve("bank", "approve.pay", named).Error.Code)
		require.Contains(t, w.balances("bank", "never"), "100")
	})
}

// Promise: a dry run is approved where it was made: not in another database, not as another statement, not raw instead of named, and not one that is
// older than another job under its id. One that was made through a queue, or without an id of its own, is approved like every other one.
func TestWhatADryRunIsApprovedAs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "bank.db")
	files := map[string]string{"pay": payDefinition, "refund": payDefinition}
	bank := func(name string, change ...func(*config.Database)) func(*config.Config) {
		return withDatabase(name, "sqlite", file, append(change, catalogOf(t, t.TempDir(), files, dryRunKinds...))...)
	}
	w.start(w.config("r1", bank("bank", withQueue("bulk", 2, 3)), bank("branch")))
	w.do("bank", "transaction", "create", createBank)
	shown := w.settled("bank", "dry_run", "d1", spend)
	named := w.settled("bank", "dry_run.pay", "n1", `"params":{"from":7,"to":9,"amount":5}`)
	untouched := w.balances("bank", "before")
	for what, got := range map[string]*contract.Result{
		"another database":            w.approve("branch", "approve", shown),
		"another database, by name":   w.approve("branch", "approve.pay", named),
		"another statement":           w.approve("bank", "approve.refund", named),
		"a statement that is not its": w.approve("bank", "approve.refund", shown),
	} {
		require.Equal(t, contract.Rejected, got.Status, what)
		require.Equal(t, contract.CodeApprovalNotFound, got.Error.Code, what)
		require.NotContains(t, got.Error.Message, shown.EffectDigest, what)
	}
	require.Equal(t, contract.CodeApprovalNotFound, w.approve("bank", "approve", w.settled("bank", "dry_run.pay", "n2", `"params":{"from":7,"to":9,"amount":5}`)).Error.Code, "its text is not that of a publisher")
	require.Equal(t, contract.CodeApprovalNotFound, w.approve("bank", "approve.nosuch", w.settled("bank", "dry_run.pay", "n3", `"params":{"from":7,"to":9,"amount":5}`)).Error.Code)
	again, sub := w.inbox()
	w.publish("bank", "dry_run", `{"id":"d1","reply_to":"`+again+`","statements":[{"sql":"UPDATE accounts SET balance = 0"}]}`)
	require.Equal(t, "job_id_reused", w.next(sub).Error.Code, "the first one's result stays")
	require.Equal(t, untouched, w.balances("bank", "after"))

	w.submit("bank", "bulk", "dry_run", "q1", spend)
	queued := w.settledUnder("bank", "q1")
	require.Equal(t, shown.EffectDigest, queued.EffectDigest)
	require.Equal(t, contract.Succeeded, w.approve("bank", "approve", queued).Status)
	once := w.balances("bank", "once")
	require.Contains(t, once, "70")
	require.Equal(t, contract.CodeEffectChanged, w.approve("bank", "approve", w.settled("bank", "dry_run", "d5", spend+`,"labels":{"a":"b"}`), func() {
		w.do("bank", "transaction", "meanwhile", `"statements":[{"sql":"UPDATE accounts SET balance = balance - 1 WHERE id = 9"}]`)
	}).Error.Code)

	reply, sub := w.inbox()
	w.publish("bank", "dry_run", `{"reply_to":"`+reply+`","statements":[{"sql":"UPDATE accounts SET balance = 70 WHERE id = 7"}]}`)
	derived := w.settledUnder("bank", w.next(sub).JobID)
	require.Equal(t, contract.Succeeded, w.approve("bank", "approve", derived).Status)
}

// Promise: on each engine the digest of one text stays the same when its rows come in another order, and changes with every value, count and column.
func TestTheDigestOfOneText(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		w.start(w.config("r1", withDatabase("bank", engine, connection, onTestServer, func(d *config.Database) { d.Kinds = []string{"transaction", "dry_run"} })))
		n := 0
		after := func(sql ...string) string {
			n++
			list, err := json.Marshal(sql)
			require.NoError(t, err)
			text := strings.NewReplacer(`["`, `[{"sql":"`, `","`, `"},{"sql":"`, `"]`, `"}]`).Replace(string(list))
			require.Equal(t, "succeeded", w.do("bank", "transaction", fmt.Sprint("t", n), `"statements":`+text).Status, sql)
			got := w.settled("bank", "dry_run", fmt.Sprint("d", n), `"statements":[{"sql":"UPDATE t SET b = b WHERE id < 9"},{"sql":"SELECT * FROM t"}]`)
			require.Equal(t, contract.Succeeded, got.Status, "%v: %+v", sql, got.Error)
			return got.EffectDigest
		}
		first := after("CREATE TABLE t (id integer NOT NULL, a varchar(9), b integer)", "INSERT INTO t VALUES (1, 'x', 1), (2, NULL, 2), (3, 'null', NULL), (9, '', 0)")
		require.Equal(t, first, after("DELETE FROM t", "INSERT INTO t VALUES (9, '', 0)", "INSERT INTO t VALUES (3, 'null', NULL)", "INSERT INTO t VALUES (2, NULL, 2), (1, 'x', 1)"))
		seen := map[string]string{first: "first"}
		for _, change := range [][2]string{
			{"UPDATE t SET a = 'y' WHERE id = 1", "UPDATE t SET a = 'x' WHERE id = 1"},
			{"UPDATE t SET a = 'null' WHERE id = 2", "UPDATE t SET a = NULL WHERE id = 2"},
			{"UPDATE t SET a = NULL WHERE id = 9", "UPDATE t SET a = '' WHERE id = 9"},
			{"UPDATE t SET b = 0 WHERE id = 3", "UPDATE t SET b = NULL WHERE id = 3"},
			{"UPDATE t SET id = 10 WHERE id = 9", "UPDATE t SET id = 9 WHERE id = 10"},
			{"INSERT INTO t VALUES (10, 'x', 1)", "DELETE FROM t WHERE id = 10"},
			{"DELETE FROM t WHERE id = 9", "INSERT INTO t VALUES (9, '', 0)"},
			{"UPDATE t SET id = 8 WHERE id = 9", "UPDATE t SET id = 9 WHERE id = 8"},
			{"UPDATE t SET id = 3 - id WHERE id < 3", "UPDATE t SET id = 3 - id WHERE id < 3"},
			{"ALTER TABLE t ADD c integer", "SELECT 1 AS n"},
		} {
			got := after(change[0])
			require.Empty(t, seen[got], "%s: as after %s", change[0], seen[got])
			seen[got] = change[0]
			if back := after(change[1]); change[0] != "ALTER TABLE t ADD c integer" {
				require.Equal(t, first, back, change[1])
			}
		}
	})
}

// Promise: a dry run shows at most 100 rows of each statement and counts the others, fails if it returns more than 10,000, has no room for a text that its
// result could not repeat, writes no object and no ledger row, and its approval returns all rows.
func TestWhatADryRunShows(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		w.start(w.config("r1", withDatabase("bank", engine, connection, onTestServer, func(d *config.Database) { d.Kinds = []string{"transaction", "query", "dry_run", "approve"} })))
		rows := func(n int) string {
			return fmt.Sprintf(`{"sql":"SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS n FROM digits a, digits b, digits c, digits d WHERE a.n + 10 * b.n + 100 * c.n + 1000 * d.n < %d"}`, n)
		}
		w.do("bank", "transaction", "create", `"statements":[{"sql":"CREATE TABLE digits (n integer)"},{"sql":"INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)"}]`)
		most := w.settled("bank", "dry_run", "most", `"row_format":"arrays","output":"object","statements":[`+rows(9_850)+`,`+rows(150)+`]`)
		require.Equal(t, contract.Succeeded, most.Status, "%+v", most.Error)
		for i, n := range []int64{9_850, 150} {
			require.Equal(t, n, most.Statements[i].RowCount)
			require.Equal(t, n-100, most.Statements[i].RowsOmitted)
			var shown []json.RawMessage
			require.NoError(t, json.Unmarshal(most.Statements[i].Rows, &shown))
			require.Len(t, shown, 100)
		}
		for id, rest := range map[string]string{"more": rows(9_850) + `,` + rows(151), "many": rows(10_000) + `,` + rows(1)} {
			got := w.settled("bank", "dry_run", id, `"max_rows":20000,"statements":[`+rest+`]`)
			require.Equal(t, contract.Failed, got.Status)
			require.Equal(t, contract.CodeResultTooLarge, got.Error.Code)
			require.Empty(t, got.EffectDigest)
		}
		require.Empty(t, w.objects())
		approved := w.approve("bank", "approve", most)
		require.Equal(t, contract.Succeeded, approved.Status, "%+v", approved.Error)
		require.EqualValues(t, 9_850, approved.Statements[0].RowCount)
		require.Zero(t, approved.Statements[0].RowsOmitted)

		large := w.settled("bank", "dry_run", "large", `"statements":[{"sql":"SELECT '`+strings.Repeat("x", 300_000)+`' AS v"}]`)
		require.Equal(t, contract.Rejected, large.Status)
		require.Equal(t, contract.CodeTooLarge, large.Error.Code)
		require.Contains(t, large.Error.Message, "its result repeats it")
		w.purgeResults("bank")
		for _, id := range []string{"most", "more", "large"} {
			require.Contains(t, string(w.request("result.bank."+id, "").body), "no_result_yet", "there is no ledger row of "+id)
		}
		require.NotContains(t, string(w.request("result.bank.most_approved", "").body), "no_result_yet", "and there is one of an approval")
	})
}

// Promise: the digest is compared again in each attempt of an approval: what a serialization failure has let another transaction
// change is found in the second attempt.
func TestTheDigestIsComparedAgainAfterARetry(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("bank", "postgres", dbtest.Postgres(t), func(d *config.Database) {
		d.Kinds = []string{"transaction", "query", "dry_run", "approve"}
	})))
	// The value of a sequence is the same in every snapshot: the other transaction has written when the gate opens.
	w.do("bank", "transaction", "create", createBank)
	require.Equal(t, "succeeded", w.do("bank", "transaction", "gate", `"statements":[{"sql":"CREATE SEQUENCE gate"},{"sql":"SELECT setval('gate', 2)"},
		{"sql":"CREATE FUNCTION passed() RETURNS integer LANGUAGE plpgsql AS $$BEGIN WHILE (SELECT last_value FROM gate) < 2 LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN 1; END$$"}]`).Status)
	body := `"isolation":"repeatable_read","statements":[{"sql":"SELECT id, balance FROM accounts WHERE id = 9"},{"sql":"SELECT passed() AS n /* FROM pg_sleep( */"},` +
		`{"sql":"UPDATE accounts SET balance = balance - 30 WHERE id = 9"}]`
	shown := w.settled("bank", "dry_run", "d1", body)
	require.Equal(t, contract.Succeeded, shown.Status, "%+v", shown.Error)
	w.do("bank", "transaction", "closed", `"statements":[{"sql":"SELECT setval('gate', 1)"}]`)
	w.publish("bank", "approve", `{"id":"d1_approved",`+approvalOf(shown)+`}`)
	w.awaitSleeper("bank")
	w.do("bank", "transaction", "between", `"statements":[{"sql":"UPDATE accounts SET balance = 5 WHERE id = 9"},{"sql":"SELECT setval('gate', 2)"}]`)
	got := w.settledUnder("bank", "d1_approved")
	require.Equal(t, contract.Failed, got.Status)
	require.Equal(t, contract.CodeEffectChanged, got.Error.Code, "%+v", got.Error)
	require.EqualValues(t, 2, got.Attempts, "the first one met the other transaction")
	require.Contains(t, w.balances("bank", "after"), "[9 5]")
}

// Promises: a database without transactions in its kinds commits nothing that two users have not agreed on: one who may only make dry
// runs cannot approve, one who may only approve cannot execute anything of his own, and NATS refuses a result that he plants.
func TestFourEyes(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := guarded(t, func(users []*server.User) {
			for _, u := range users {
				switch u.Username {
				case "publisher": // makes dry runs
					u.Permissions.Publish.Allow = []string{"dbrunner.jobs.bank.dry_run", "dbrunner.jobs.bank.dry_run.pay"}
				case "flow": // approves
					u.Permissions.Publish.Allow = []string{"dbrunner.jobs.bank.approve", "dbrunner.jobs.bank.approve.pay"}
				case "topology": // may do all
					u.Permissions = nil
				}
			}
		})
		boss := w.as("topology")
		files := map[string]string{"create": "statements: [{sql: 'CREATE TABLE accounts (id integer PRIMARY KEY, balance integer)'}, {sql: 'INSERT INTO accounts VALUES (7, 100), (9, 0)'}]\n", "pay": payDefinition, "balances": "sql: SELECT id, balance FROM accounts ORDER BY id\n"}
		w.start(w.signedIn("r1", "topology", withDatabase("bank", engine, connection, catalogOf(t, t.TempDir(), files, "call", "dry_run", "approve"))))
		require.Equal(t, "succeeded", boss.do("bank", "call.create", "create", `"params":{}`).Status)
		maker, checker := w.as("publisher"), w.as("flow")
		ask := func(id string) string { return fmt.Sprint(boss.do("bank", "call.balances", id, `"params":{}`).Rows) }
		before := ask("before")

		maker.publish("bank", "dry_run", `{"id":"d1",`+spend+`}`)
		maker.publish("bank", "dry_run.pay", `{"id":"n1","params":{"from":7,"to":9,"amount":5}}`)
		shown, named := boss.settledUnder("bank", "d1"), boss.settledUnder("bank", "n1")
		require.Equal(t, contract.Succeeded, shown.Status, "%+v", shown.Error)
		require.Equal(t, contract.Succeeded, named.Status, "%+v", named.Error)
		require.Equal(t, before, ask("rolled-back"))
		both := []string{
			"dbrunner.jobs.bank.call.pay", "dbrunner.jobs.bank.call.create", "dbrunner.jobs.bank.transaction", "dbrunner.jobs.bank.statement", "dbrunner.jobs.bank.migration",
			"dbrunner.queues.bank.bulk.transaction", "dbrunner.queues.bank.bulk.dry_run", "dbrunner.api.run.bank.call.pay", "dbrunner.api.run.bank.transaction", "dbrunner.api.run.bank.approve",
			"dbrunner.store.bank.planted", "dbrunner.results.bank.planted", "$KV.DBRUNNER_STATE.x", "$KV.DBRUNNER_SCHEDULES.x", "$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_bank",
			"$JS.API.STREAM.MSG.DELETE.DBRUNNER_RESULTS_bank", "$JS.API.STREAM.UPDATE.DBRUNNER_RESULTS_bank", "$JS.API.STREAM.DELETE.DBRUNNER_RESULTS_bank",
		}
		maker.mayNot(append(both, "dbrunner.jobs.bank.approve", "dbrunner.jobs.bank.approve.pay"), nil)
		checker.mayNot(append(both, "dbrunner.jobs.bank.dry_run", "dbrunner.jobs.bank.dry_run.pay"), nil)
		require.Equal(t, "kind_not_allowed", boss.do("bank", "transaction", "raw", spend).Error.Code, "for every user")
		require.Equal(t, before, ask("refused"))

		// He plants a dry run's result of his own, which a runner would take for one: it reaches neither the stream nor the approval.
		forged := strings.Replace(string(boss.stored("bank", "d1")), `"job_id":"d1"`, `"job_id":"planted"`, 1)
		_, err := checker.js.Publish(t.Context(), "dbrunner.store.bank.planted", []byte(forged), jetstream.WithRetryAttempts(0))
		require.Error(t, err)
		require.Nil(t, boss.stored("bank", "planted"))
		checker.publish("bank", "approve", `{"id":"planted_approved","approves":"planted","expect_digest":"`+shown.EffectDigest+`"}`)
		require.Equal(t, "approval_not_found", boss.await("bank", "planted_approved").Error.Code)
		require.Equal(t, before, ask("planted-balances"))
		checker.publish("bank", "approve", `{"id":"d1_approved",`+approvalOf(shown)+`}`)
		require.Equal(t, "succeeded", boss.await("bank", "d1_approved").Status)
		require.NotEqual(t, before, ask("agreed"))
		checker.publish("bank", "approve.pay", `{"id":"n1_approved",`+approvalOf(named)+`}`)
		require.Equal(t, "succeeded", boss.await("bank", "n1_approved").Status)
	})
}

// Promises: with calls alone, dry runs and approvals of named statements run, and raw ones do not; a rejected approval is on record
// before it is answered.
func TestKindsOfDryRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withHTTP, withDatabase("bank", "sqlite", filepath.Join(t.TempDir(), "bank.db"),
		catalogOf(t, t.TempDir(), map[string]string{"make": "statements: [{sql: CREATE TABLE t (n INTEGER)}]\n", "put": "params: {n: {type: integer}}\nstatements: [{sql: INSERT INTO t VALUES (:n) RETURNING n}]\n"}, "call"))))
	require.Equal(t, "succeeded", w.do("bank", "call.make", "made", `"params":{}`).Status)
	_, err := w.js.Publish(t.Context(), "dbrunner.jobs.bank.dry_run", []byte(`{"id":"raw"}`))
	require.Error(t, err, "the stream does not take it")
	shown := w.settled("bank", "dry_run.put", "p", `"params":{"n":7}`)
	require.Equal(t, contract.Succeeded, w.approve("bank", "approve.put", shown).Status)
	require.Equal(t, contract.CodeApprovalNotFound, w.settled("bank", "approve.put", "x_approved", `"approves":"x","expect_digest":"`+shown.EffectDigest+`"`).Error.Code)
	w.purgeResults("bank")
	recorded := w.request("result.bank.x_approved", "")
	require.Contains(t, string(recorded.body), "approval_not_found", "it is in the ledger")
	gone := w.settled("bank", "approve.put", "q_approved", `"approves":"p","expect_digest":"`+shown.EffectDigest+`"`)
	require.Equal(t, contract.CodeInvalidID, gone.Error.Code)
	asked := w.request("run.bank.dry_run.put", `{"id":"asked","params":{"n":8}}`)
	require.Contains(t, string(asked.body), `"effect":"rolled_back"`)
	require.Contains(t, string(w.request("run.bank.dry_run", `{"id":"asked2","statements":[]}`).body), "invalid_subject")
	require.Contains(t, w.request("run.bank.nosuch", `{}`).refused(t, "404", "kind_not_allowed").Error.Message, "dry_run.<name>, approve.<name>")
	r.expect(t, map[string]float64{"dbrunner_jobs_total kind=dry_run,status=succeeded": 2, "dbrunner_jobs_total kind=approve,status=succeeded": 1})
	require.Negative(t, r.scrape(t).value("dbrunner_calls_total", "call=put"), "a dry run is no call")
}
