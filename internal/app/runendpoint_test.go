package app_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dbtest"
)

// insertInto is the body of a transaction that leaves one row.
func insertInto(id string, n int) string {
	return fmt.Sprintf(`{"id":%q,"statements":[{"sql":"INSERT INTO a VALUES (:n)","params":{"n":%d}}]}`, id, n)
}

// rowsOfA returns the rows that jobs have left.
func (w *world) rowsOfA() string {
	w.t.Helper()
	return fmt.Sprint(w.do("shop", "query", "rows-"+strings.ToLower(rand.Text()), `"row_format":"arrays","sql":"SELECT n FROM a ORDER BY n"`).Rows)
}

// TestRunEndpointComparesRequestsWithinTheWindow: JetStream drops the second message and names the first one's sequence; the
// answer is the first one's result only if both ask for the same.
func TestRunEndpointComparesRequestsWithinTheWindow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE a (n INTEGER)"}]`)
	first := `{"id":"x1","statements":[{"sql":"INSERT INTO a VALUES (:n)","params":{"n":1}},{"sql":"SELECT 1 AS n"}]}`
	require.Equal(t, "succeeded", parse(t, w.request("run.shop.transaction", first).body).Status)

	for name, same := range map[string]string{
		"the same bytes":            first,
		"blanks and order of keys":  ` { "statements" : [ {"params":{ "n" : 1 },"sql":"INSERT INTO a VALUES (:n)"} , {"sql":"SELECT 1 AS n"} ] , "id" : "x1" } `,
		"escapes":                   strings.ReplaceAll(first, "INSERT", `\u0049NSERT`),
		"labels, timeout and reply": strings.Replace(first, `{"id"`, `{"labels":{"try":"2"},"timeout":"7s","reply_to":"_INBOX.elsewhere","id"`, 1),
		"the effect written out":    strings.Replace(first, `{"id"`, `{"effect":"exactly_once","id"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			again := w.request("run.shop.transaction", same)
			require.Empty(t, again.code, "%s", again.text)
			require.Equal(t, "succeeded", parse(t, again.body).Status)
			require.True(t, parse(t, again.body).Duplicate)
		})
	}
	for name, other := range map[string][2]string{
		"another parameter":     {"transaction", strings.Replace(first, `"n":1`, `"n":2`, 1)},
		"a parameter's type":    {"transaction", strings.Replace(first, `"n":1`, `"n":"1"`, 1)},
		"another statement":     {"transaction", strings.Replace(first, `SELECT 1`, `SELECT 2`, 1)},
		"one statement more":    {"transaction", strings.Replace(first, `]}`, `,{"sql":"SELECT 3"}]}`, 1)},
		"another effect":        {"transaction", strings.Replace(first, `{"id"`, `{"effect":"at_least_once","id"`, 1)},
		"another kind":          {"query", `{"id":"x1","sql":"SELECT 1 AS n"}`},
		"another kind, invalid": {"query", first},
		"no valid job":          {"transaction", `{"id":"x1","statements":[]}`},
		"no JSON behind the id": {"transaction", `{"id":"x1",`},
	} {
		t.Run(name, func(t *testing.T) {
			refused := w.request("run.shop."+other[0], other[1]).refused(t, "409", "job_id_reused")
			require.Equal(t, "x1", refused.JobID)
			require.False(t, refused.Error.Retryable)
		})
	}
	require.Equal(t, "[[1]]", w.rowsOfA(), "nothing else ran")
}

// TestRunEndpointComparesRejectedRequests: a body that cannot be understood has no hash, and neither has its result.
func TestRunEndpointComparesRejectedRequests(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	for i, first := range []string{`no JSON`, `{"sql":`, `{"sqll":"SELECT 1"}`, `[]`, ``} {
		id := fmt.Sprintf("bad-%d", i)
		run := func(kind, body string) reply { return w.request("run.shop."+kind, body, "Nats-Msg-Id", id) }
		require.Equal(t, "rejected", parse(t, run("query", first).body).Status, first)
		again := run("query", first)
		require.Empty(t, again.code, "a true duplicate of %q gets the first result: %s", first, again.text)
		require.Equal(t, "rejected", parse(t, again.body).Status)
		require.Equal(t, id, parse(t, again.body).JobID)

		run("query", `{"sql":"SELECT 1 AS n"}`).refused(t, "409", "job_id_reused")
		run("query", `{"sql":"SELECT 1 AS n", "another":`).refused(t, "409", "job_id_reused")
		run("transaction", first).refused(t, "409", "job_id_reused")
	}
}

// TestRunEndpointComparesWithARequestUnderWay: the first request's message is still in the queue, so that it can be compared
// before there is a result.
func TestRunEndpointComparesWithARequestUnderWay(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t))))
	body := `{"id":"slow","sql":"SELECT 7 AS n FROM pg_sleep(:s)","params":{"s":2}}`
	w.request("run.shop.query", body, "Dbrunner-Wait", "50ms").refused(t, "504", "no_result_yet")
	for _, other := range [][2]string{
		{"query", strings.Replace(body, "7", "8", 1)}, {"query", `{"id":"slow"`}, {"transaction", `{"id":"slow","statements":[{"sql":"SELECT 1"}]}`},
	} {
		asked := time.Now()
		w.request("run.shop."+other[0], other[1], "Dbrunner-Wait", "60s").refused(t, "409", "job_id_reused")
		require.Less(t, time.Since(asked), 30*time.Second, "it does not wait for the first one's result")
	}
	same := w.request("run.shop.query", `{"params":{"s":2},"sql":"SELECT 7 AS n FROM pg_sleep(:s)","id":"slow"}`, "Dbrunner-Wait", "60s")
	require.Equal(t, "succeeded", parse(t, same.body).Status, same.text)
}

// TestRunEndpointComparesWithTheLedger: the results of the ids have expired, and only their ledger rows are left.
func TestRunEndpointComparesWithTheLedger(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE a (n INTEGER)"}]`)
	for i := range 3 {
		id := fmt.Sprintf("x%d", i)
		w.publish("shop", "transaction", insertInto(id, i))
		require.Equal(t, "succeeded", w.await("shop", id).Status)
	}
	results, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(t, err)
	require.NoError(t, results.Purge(t.Context()))
	for _, wait := range []string{"20s", "3s"} {
		w.request("run.shop.transaction", insertInto("x0", 100), "Dbrunner-Wait", wait).refused(t, "409", "job_id_reused")
	}
	same := w.request("run.shop.transaction", insertInto("x1", 1), "Dbrunner-Wait", "20s")
	require.Equal(t, "succeeded", parse(t, same.body).Status, same.text)
	query := w.request("run.shop.query", `{"id":"x2","sql":"SELECT 1"}`, "Dbrunner-Wait", "20s")
	require.Equal(t, "succeeded", parse(t, query.body).Status, "queries have no ledger row: %s", query.text)
	require.Equal(t, "[[0] [1] [2]]", w.rowsOfA(), "nothing else ran")
}

// TestRunEndpointComparesWithQueuedMessages: nothing of the database runs, so that all messages stay in the queue.
func TestRunEndpointComparesWithQueuedMessages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("gone", "sqlite", "/nosuch/folder/gone.db")))
	publish := func(kind, id, body string) {
		t.Helper()
		_, err := w.js.Publish(t.Context(), "dbrunner.jobs.gone."+kind, []byte(body), jetstream.WithMsgID(id))
		require.NoError(t, err)
	}
	request := func(id, body string) reply {
		return w.request("run.gone.query", body, "Nats-Msg-Id", id, "Dbrunner-Wait", "300ms")
	}
	publish("query", "same", `{"sql":"SELECT 1"}`)
	request("same", `{ "sql": "SELECT 1" }`).refused(t, "504", "no_result_yet")
	request("same", `{"sql":"SELECT 2"}`).refused(t, "409", "job_id_reused")

	publish("query", "header", `{"id":"body","sql":"SELECT 1"}`)
	request("header", `{"sql":"SELECT 1"}`).refused(t, "409", "job_id_reused") // no result will ever be under this id

	publish("query", "reply", `{"sql":"SELECT 1","answer":"reply","reply_to":"_INBOX.a"}`)
	request("reply", `{"sql":"SELECT 1"}`).refused(t, "409", "job_id_reused") // nor under this one

	publish("query", "bad", `no JSON`)
	request("bad", `no JSON`).refused(t, "504", "no_result_yet")
	request("bad", `no JSON `).refused(t, "409", "job_id_reused")
	publish("transaction", "kind", `no JSON`)
	request("kind", `no JSON`).refused(t, "409", "job_id_reused")
}

// TestRunEndpointKnowsResultsOfAnEarlierStream: the sequences of a recreated stream start at one again, while the
// results of the earlier one are still there.
func TestRunEndpointKnowsResultsOfAnEarlierStream(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"with a hash": `{"sql":"SELECT 1 AS n"}`, "without a hash": `no JSON`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			cfg := w.config("r1", withSQLite(t, "shop"))
			r := w.start(cfg)
			require.Empty(t, w.request("run.shop.query", first, "Nats-Msg-Id", "x1").code)
			r.end(t)
			require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_JOBS_shop"))
			w.start(cfg)
			w.request("run.shop.query", `{"sql":"SELECT 2 AS n"}`, "Nats-Msg-Id", "x1").refused(t, "409", "job_id_reused")
			require.Zero(t, w.waiting("shop"), "nothing was published")
			again := w.request("run.shop.query", first, "Nats-Msg-Id", "x1")
			require.Empty(t, again.code, again.text)
			require.True(t, parse(t, again.body).Duplicate)
		})
	}
}

// TestRunEndpointComparesRequestsThatMeet: requests with one id and two meanings at the same moment; one of them takes effect,
// and neither gets the other one's result.
func TestRunEndpointComparesRequestsThatMeet(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE a (n INTEGER)"}]`)
	const ids, each = 10, 6
	for i := range ids {
		id := fmt.Sprintf("meet-%d", i)
		var answers [each]reply
		var wg sync.WaitGroup
		for k := range each {
			wg.Go(func() {
				answers[k] = w.request("run.shop.transaction", insertInto(id, 2*i+k%2), "Dbrunner-Wait", "60s")
			})
		}
		wg.Wait()
		winner := -1
		for k, a := range answers {
			if a.code != "" {
				a.refused(t, "409", "job_id_reused")
				continue
			}
			require.True(t, winner < 0 || winner == k%2, "both meanings of one id got an answer")
			winner = k % 2
		}
		require.Contains(t, w.rowsOfA(), fmt.Sprint([]any{float64(2*i + winner)}))
	}
	require.Len(t, strings.Fields(w.rowsOfA()), ids)
}
