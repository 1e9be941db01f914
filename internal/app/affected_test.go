package app_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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
