package app_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/config"
)

// TestMaxAffected limits the rows of transactions by the database's configuration: the lower one of its limit and the job's
// counts, and a failure is repeated to every duplicate.
func TestMaxAffected(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		w.start(w.config("r1", withDatabase("free", engine, connection, onTestServer), withDatabase("shop", engine, connection, onTestServer, func(d *config.Database) {
			d.Kinds, d.MaxAffected = []string{"query", "transaction"}, 10
		})))
		require.Equal(t, "succeeded", w.do("free", "transaction", "setup", `"statements":[
			{"sql":"CREATE TABLE item (id INTEGER PRIMARY KEY)"},
			{"sql":"INSERT INTO item VALUES (1), (2), (3), (4), (5), (6)"}]`).Status)
		const six = `{"sql":"UPDATE item SET id = id"}`
		end := func(id, rest string) string {
			r := w.do("shop", "transaction", id, rest)
			if r.Error == nil {
				return r.Status
			}
			return r.Status + " " + r.Error.Code
		}
		const exceeded = "failed max_affected_exceeded"
		require.Equal(t, "succeeded", end("six", `"statements":[`+six+`]`))
		require.Equal(t, exceeded, end("twelve", `"statements":[`+six+`,`+six+`]`))
		require.Equal(t, exceeded, end("raised", `"max_affected":1000,"statements":[`+six+`,`+six+`]`), "a job raises no limit")
		require.Equal(t, exceeded, end("lowered", `"max_affected":5,"statements":[`+six+`]`))
		require.Equal(t, exceeded, end("loose", `"effect":"at_least_once","statements":[`+six+`,`+six+`]`))
		require.Equal(t, "failed not_countable", end("table", `"statements":[{"sql":"CREATE TABLE other (id INTEGER)"}]`))

		answer := string(w.stored("shop", "twelve"))
		require.Contains(t, answer, "wrote 12 rows, and max_affected is 10")
		require.Contains(t, string(w.stored("shop", "lowered")), "wrote 6 rows, and max_affected is 5")
		inbox, sub := w.inbox()
		w.publish("shop", "transaction", `{"id":"twelve","reply_to":"`+inbox+`","statements":[`+six+`,`+six+`]}`)
		again := w.next(sub)
		require.True(t, again.Duplicate)
		require.Equal(t, "failed", again.Status)
		require.Equal(t, "max_affected_exceeded", again.Error.Code)
		require.Equal(t, answer, string(w.stored("shop", "twelve")))

		// A job without a limit of its database has its own.
		require.Equal(t, "failed", w.do("free", "transaction", "own", `"max_affected":11,"statements":[`+six+`,`+six+`]`).Status)
		require.Equal(t, "succeeded", w.do("free", "transaction", "enough", `"max_affected":12,"statements":[`+six+`,`+six+`]`).Status)
	})
}

// Promise: of the limits of a database, a named statement and a job, the lowest one counts, for calls, dry runs and approvals too; no
// body raises one, and the limit that counted when a dry run was made counts when it is approved.
func TestTheLowestLimitCounts(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		files := map[string]string{"create": "statements: [{sql: CREATE TABLE item (id integer PRIMARY KEY)}, {sql: 'INSERT INTO item VALUES (1), (2), (3), (4), (5), (6)'}]\n"}
		update := "params: {most: {schema: {type: integer}}}\nstatements: [{sql: UPDATE item SET id = id WHERE id <= :most}]\n"
		files["few"], files["many"], files["free"] = "max_affected: 2\n"+update, "max_affected: 100\n"+update, update
		limited := func(limit int64) func(*config.Database) {
			return func(d *config.Database) {
				catalogOf(t, t.TempDir(), files, "call", "dry_run", "approve")(d)
				d.MaxAffected = limit
			}
		}
		w.start(w.config("r1", withDatabase("free", engine, connection, limited(0)), withDatabase("shop", engine, connection, limited(4))))
		require.Equal(t, "succeeded", w.do("free", "call.create", "create", `"params":{}`).Status)
		for i, c := range []struct {
			database, call string
			rows, limit    int // limit 0: it succeeds
		}{
			{"free", "few", 2, 0},
			{"free", "few", 3, 2},
			{"free", "many", 6, 0},
			{"free", "free", 6, 0},
			{"shop", "few", 2, 0},
			{"shop", "few", 3, 2},
			{"shop", "many", 4, 0},
			{"shop", "many", 5, 4},
			{"shop", "free", 4, 0},
			{"shop", "free", 5, 4},
		} {
			for _, kind := range []string{"call.", "dry_run."} {
				got := w.settled(c.database, kind+c.call, fmt.Sprint(kind[:4], i), fmt.Sprintf(`"params":{"most":%d}`, c.rows))
				if c.limit == 0 {
					require.Equal(t, contract.Succeeded, got.Status, "%+v: %+v", c, got.Error)
					continue
				}
				require.Equal(t, contract.CodeMaxAffected, got.Error.Code, "%+v", c)
				require.Contains(t, got.Error.Message, fmt.Sprintf("wrote %d rows, and max_affected is %d", c.rows, c.limit))
			}
		}
		raised := w.settled("shop", "call.few", "raised", `"params":{"most":3},"max_affected":1000`)
		require.Equal(t, contract.CodeUnknownKey, raised.Error.Code)
		own := w.settled("shop", "dry_run", "own", `"max_affected":1000,"statements":[{"sql":"UPDATE item SET id = id"}]`)
		require.Equal(t, contract.CodeMaxAffected, own.Error.Code)
		require.Contains(t, own.Error.Message, "wrote 6 rows, and max_affected is 4")

		// The rows that were written when it was shown are no longer all that there are: the limit is in front of the digest's comparison or behind
		// it, and nothing is committed.
		shown := w.settled("shop", "dry_run", "d1", `"max_affected":2,"statements":[{"sql":"UPDATE item SET id = id + 100 WHERE id >= 5"}]`)
		require.Equal(t, contract.Succeeded, shown.Status, "%+v", shown.Error)
		more := w.settled("free", "dry_run", "more", `"statements":[{"sql":"INSERT INTO item VALUES (7)"}]`)
		require.Equal(t, contract.Succeeded, w.approve("free", "approve", more).Status)
		require.Equal(t, contract.Failed, w.approve("shop", "approve", shown).Status)
		late := w.settled("free", "dry_run", "late", `"statements":[{"sql":"SELECT id FROM item WHERE id > 100"}]`)
		require.Zero(t, late.Statements[0].RowCount)
	})
}
