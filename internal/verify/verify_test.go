package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/verify"
)

// outcomes runs jobs that finish in all the ways in which jobs do.
func (w *world) outcomes() {
	w.t.Helper()
	for i := range 20 {
		w.publish("transaction", fmt.Sprint("pay-", i), insert)
	}
	w.must("query", "read", `"sql":"SELECT 1 AS n"`)
	w.must("statement", "alone", `"sql":"CREATE INDEX by_n ON effects (n)"`)
	w.must("transaction", "again", `"effect":"at_least_once",`+insert)
	require.Equal(w.t, "failed", w.do("transaction", "fails", `"statements":[{"sql":"INSERT INTO nosuch VALUES (1)"}]`).Status)
	require.Equal(w.t, "failed", w.do("query", "misses", `"sql":"SELECT * FROM nosuch"`).Status)
	require.Equal(w.t, "rejected", w.do("query", "bad", `"sqll":"SELECT 1"`).Status)
	require.Equal(w.t, "rejected", w.do("transaction", "worse", `"statements":[]`).Status)
	require.Equal(w.t, "expired", w.do("transaction", "late", `"expires_at":"2020-01-01T00:00:00Z",`+insert).Status)
	w.publish("transaction", "pay-1", insert)                              // a duplicate
	w.publish("transaction", "pay-2", `"statements":[{"sql":"SELECT 1"}]`) // another request
	w.publish("query", "read", `"sql":"SELECT 2 AS n"`)                    // another request after a job without a row
	taken := w.publish("transaction", "read", insert)                      // its result goes under the derived id
	w.must("query", "read-2", `"sql":"SELECT 1 AS n"`)
	w.publish("transaction", "read-2", `"statements":[{"sql":"INSERT INTO nosuch VALUES (1)"}]`) // a failure under the derived id
	_, err := w.js.Publish(w.t.Context(), "dbrunner.jobs.shop.query", []byte(`{"sql":"SELECT * FROM nosuch","answer":"reply","reply_to":"_INBOX.x","id":"replied"}`))
	require.NoError(w.t, err)
	_, err = w.js.Publish(w.t.Context(), "dbrunner.jobs.shop.transaction", []byte(`{`+insert+`}`)) // without an id
	require.NoError(w.t, err)
	w.settled()
	results, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(w.t, err)
	info, err := results.Info(w.t.Context(), jetstream.WithSubjectFilter("dbrunner.results.shop.*"))
	require.NoError(w.t, err)
	found := false
	for subject := range info.State.Subjects {
		found = found || strings.HasPrefix(subject, fmt.Sprintf("dbrunner.results.shop.s%d_", taken))
	}
	require.True(w.t, found, "a result under its derived id")
}

// TestNothingIsFound: jobs that finish in all the ways in which jobs do leave nothing that does not match.
func TestNothingIsFound(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.outcomes()
		report := w.verify()
		requireFound(t, report)
		require.True(t, report.Complete)
		require.Zero(t, report.Violations())
		require.Equal(t, verify.NotJudged{}, report.NotJudged, "everything was judged")
		require.GreaterOrEqual(t, report.Results, uint64(30))
		require.GreaterOrEqual(t, report.LedgerRows, uint64(26))
		require.EqualValues(t, 9, report.DeadLetters)
		forgetful := w.verify(func(o *verify.Options) { o.Remember = 1 })
		requireFound(t, forgetful)
		require.True(t, forgetful.NotJudged.Remembered)
		later := w.verify(func(o *verify.Options) { o.Since = time.Now().Add(time.Hour) })
		requireFound(t, later)
		require.Zero(t, later.Results+later.LedgerRows+later.DeadLetters)
	})
}

// TestPlanted: whatever is removed, altered or forged by hand is found, named for what it is, and nothing else.
func TestPlanted(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.outcomes()
		const results = "DBRUNNER_RESULTS_shop"
		w.remove(results, w.pay("lost-result").seq)
		w.pay("lost-row")
		w.edit("DELETE FROM ledger", "lost-row")
		w.pay("hash")
		w.edit("UPDATE ledger SET request_hash = ?2", "hash", []byte(strings.Repeat("x", 32)))
		w.pay("status")
		w.edit("UPDATE ledger SET status = 'failed'", "status")
		answered := w.pay("answer")
		w.edit("UPDATE ledger SET answer = ?2", "answer", answered.altered(t, map[string]any{"statements": []any{}}))
		w.pay("moved")
		w.edit("UPDATE ledger SET sequence = sequence + 1000", "moved")
		w.pay("started")
		w.edit("UPDATE ledger SET status = 'started'", "started")
		w.remove(results, w.await("started").seq)
		twice := w.pay("twice")
		w.forge(twice.derived(), twice.body)
		w.forge("elsewhere", twice.body)
		now := time.Now().UTC().Format(time.RFC3339Nano)
		w.forge("forged", twice.altered(t, map[string]any{"job_id": "forged", "sequence": 999_999, "queued_at": now}))
		w.forge("garbage", []byte("{"))
		w.forge("unknown", twice.altered(t, map[string]any{"job_id": "unknown", "status": "unknown", "sequence": 2, "queued_at": now}))
		w.forge("other", twice.altered(t, map[string]any{"job_id": "other", "database": "bank", "sequence": 3, "queued_at": now}))

		w.remove(results, w.do("query", "dead", `"sql":"SELECT * FROM nosuch"`).seq)
		reason := w.do("query", "reason", `"sql":"SELECT * FROM nosuch"`)
		w.settled() // the runner has stored its own dead letter, which is replaced now
		w.storeDeadLetter(reason, "rejected", "reason")
		w.storeDeadLetter(twice, "failed", "pay-1")
		w.storeDeadLetter(w.pay("refused"), "job_id_reused", "")
		requireFound(t, w.verify(),
			"result_missing lost-result", "ledger_row_missing lost-row",
			"ledger_row_differs hash", "ledger_row_inconsistent hash", "ledger_row_differs status", "ledger_row_inconsistent status",
			"ledger_row_differs answer", "ledger_row_of_another_message moved", "ledger_row_inconsistent moved",
			"started_without_outcome started", "second_result twice", "result_misplaced twice", "result_misplaced other",
			"ledger_row_missing forged", "result_of_no_message forged", "result_unreadable garbage", "unknown_outcome unknown",
			"dead_letter_without_result dead", "dead_letter_differs reason", "dead_letter_differs twice", "refused_but_recorded refused")

		few := w.verify(func(o *verify.Options) { o.Limit = 3 })
		require.Len(t, few.Findings, 3)
		require.False(t, few.Complete)
	})
}

// storeDeadLetter stores a dead letter of a message as a runner would.
func (w *world) storeDeadLetter(of *result, reason, resultID string) {
	w.t.Helper()
	m := nats.NewMsg("dbrunner.dead.shop.query." + of.derived())
	m.Header.Set("Dbrunner-Job-Id", of.JobID)
	m.Header.Set("Dbrunner-Reason", reason)
	m.Header.Set("Dbrunner-Sequence", fmt.Sprint(of.Sequence))
	m.Header.Set("Dbrunner-Queued-At", of.QueuedAt.Format(time.RFC3339Nano))
	if resultID != "" {
		m.Header.Set("Dbrunner-Result-Id", resultID)
	}
	m.Data = []byte("{}")
	_, err := w.js.PublishMsg(w.t.Context(), m)
	require.NoError(w.t, err)
}

// TestDeadLetterMissing: where no dead letter was ever removed, a job that failed has one.
func TestDeadLetterMissing(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		sequence := w.publish("query", "replied", `"sql":"SELECT 1 AS n","answer":"reply","reply_to":"_INBOX.x"`)
		w.settled()
		first := w.await("create")
		body := first.altered(t, map[string]any{
			"job_id": "replied", "kind": "query", "effect": "read_only", "status": "failed", "sequence": sequence, "queued_at": first.QueuedAt.Add(time.Second),
		})
		w.forge("replied", body)
		requireFound(t, w.verify(), "dead_letter_missing replied")
		requireFound(t, w.verify(func(o *verify.Options) { o.DeadLetters = []string{"rejected"} }))
	})
}

// TestSettledJobs: a message whose result was stored long ago is a warning; nothing is found about one that is on its way.
func TestSettledJobs(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.stop()
		w.publish("query", "left", `"sql":"SELECT 1 AS n"`)
		w.publish("query", "waits", `"sql":"SELECT 1 AS n"`)
		consumer, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "work")
		require.NoError(t, err)
		batch, err := consumer.Fetch(2, jetstream.FetchMaxWait(testTimeout))
		require.NoError(t, err)
		m := <-batch.Messages()
		require.NotNil(t, m)
		meta, err := m.Metadata()
		require.NoError(t, err)
		<-batch.Messages()
		first := w.await("create")
		w.forge("left", first.altered(t, map[string]any{
			"job_id": "left", "kind": "query", "effect": "read_only", "sequence": meta.Sequence.Stream, "queued_at": meta.Timestamp.UTC().Format(time.RFC3339Nano),
		}))
		report := w.verify()
		requireFound(t, report)
		require.EqualValues(t, 2, report.Jobs)
		report = w.verify(func(o *verify.Options) { o.Grace = time.Nanosecond })
		requireFound(t, report, "settled_job_not_removed left")
		require.Zero(t, report.Violations(), "it is a warning")
	})
}

// TestWorkUnderWay: a ledger row whose job is not settled yet is no finding, nor is a start without an outcome.
func TestWorkUnderWay(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.pay("first")
		unstored := w.pay("unstored")
		w.pay("started")
		w.settled()
		w.stop()
		// As a runner leaves it that is killed after its COMMIT: the message is there, the row too, and no result.
		sequence := w.publish("transaction", "unstored-2", insert)
		stream, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
		require.NoError(t, err)
		m, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		for _, id := range []string{"unstored", "started"} {
			body := unstored.altered(t, map[string]any{"job_id": id, "sequence": sequence, "queued_at": m.Time.UTC().Format(time.RFC3339Nano)})
			w.edit("UPDATE ledger SET sequence = ?2, message_time = ?3, answer = ?4", id, int64(sequence), m.Time.UnixNano(), body)
			w.remove("DBRUNNER_RESULTS_shop", w.await(id).seq)
		}
		w.edit("UPDATE ledger SET status = 'started'", "started")
		report := w.verify()
		requireFound(t, report)
		require.EqualValues(t, 1, report.InProgress)
		w.remove("DBRUNNER_JOBS_shop", sequence)
		requireFound(t, w.verify(), "result_missing unstored", "started_without_outcome started")
	})
}

// TestExpiry: what may have expired is not judged: results that the stream has lost from its front, and rows that the ledger
// may have deleted.
func TestExpiry(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, w *world) {
		w.pay("a")
		w.pay("b")
		w.remove("DBRUNNER_RESULTS_shop", w.await("create").seq) // the first one: from here on the stream may have lost its front
		w.remove("DBRUNNER_RESULTS_shop", w.await("b").seq)
		w.edit("DELETE FROM ledger", "a")
		requireFound(t, w.verify(), "ledger_row_missing a")
		report := w.verify(func(o *verify.Options) { o.Retention = time.Second })
		requireFound(t, report)
		require.EqualValues(t, 1, report.NotJudged.SweptRows)
		require.EqualValues(t, 2, report.NotJudged.ExpiredResults)
	})
}
