package app_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// newClient returns a client of this world.
func (w *world) newClient() *client.Client {
	w.t.Helper()
	c, err := client.New(w.nc, client.Options{})
	require.NoError(w.t, err)
	return c
}

// awaitRunning asks what runs until it is as wanted.
func (w *world) awaitRunning(wanted func(*client.Running) bool, databases ...string) *client.Running {
	w.t.Helper()
	var found *client.Running
	require.Eventually(w.t, func() bool {
		var err error
		found, err = w.newClient().Running(w.t.Context(), client.RunningOptions{Databases: databases, Wait: testTimeout})
		return err == nil && wanted(found)
	}, testTimeout, 20*time.Millisecond, "%+v", found)
	return found
}

const sleepingQuery = `"timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"`

// TestRunning: two runners answer for themselves, for each database that they have. A job that has no connection waits.
func TestRunning(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	one := func(d *config.Database) { d.Pool.Max, d.Slots = 1, 2 }
	for _, name := range []string{"r1", "r2"} {
		w.start(w.config(name, withDatabase("shop", "postgres", dsn, one), withSQLite(t, "audit"), func(cfg *config.Config) { cfg.Worker.DrainTimeout = 50 * time.Millisecond }))
	}
	none := w.awaitRunning(func(*client.Running) bool { return true })
	require.Empty(t, none.Jobs)
	require.Len(t, none.Runners, 4, "two runners, two databases")
	require.Empty(t, none.Missing)
	for i := range 4 {
		w.publish("shop", "query", fmt.Sprintf(`{"id":"q%d",%s}`, i, sleepingQuery))
	}
	found := w.awaitRunning(func(r *client.Running) bool {
		states := map[string]int{}
		for i := range r.Jobs {
			states[r.Jobs[i].State]++
		}
		return states[contract.JobExecuting] == 2 && states[contract.JobWaiting] == 2
	}, "shop")
	ids, byRunner := map[string]bool{}, map[string]int{}
	for i := range found.Jobs {
		j := &found.Jobs[i]
		ids[j.JobID] = true
		byRunner[j.Runner]++
		require.Equal(t, "query", j.Kind)
		require.Equal(t, "shop", j.Database)
		require.EqualValues(t, 1, j.Deliveries)
		require.WithinDuration(t, time.Now(), j.Since, testTimeout)
		require.False(t, j.Since.Before(j.QueuedAt.Add(-time.Second)))
		require.Equal(t, j.State == contract.JobExecuting, j.ExecutingSince != nil)
		require.Equal(t, j.State == contract.JobExecuting, j.Attempts == 1)
	}
	require.Equal(t, map[string]bool{"q0": true, "q1": true, "q2": true, "q3": true}, ids)
	require.Equal(t, map[string]int{"r1": 2, "r2": 2}, byRunner)
	for _, raw := range w.gather("dbrunner.api.running.shop", 2) {
		requireSchema(t, "answer-running", raw)
	}
}

// TestRunningRefusesWhatIsNoRequest: a body, a wrong subject, a reply subject that is not the requester's own.
func TestRunningRefusesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	w := setup(t)
	runner := w.start(w.config("r1", withSQLite(t, "shop")))
	w.request("running.shop", `{"all":true}`).refused(t, "400", "invalid_body")
	w.request("running", "").refused(t, "400", "invalid_subject")
	w.request("running.shop.more", "").refused(t, "400", "invalid_subject")
	w.request("running.a+b", "").refused(t, "400", "invalid_subject")
	w.request("running.nosuch", "").refused(t, "404", "unknown_database")
	_, err := w.newClient().Running(t.Context(), client.RunningOptions{Databases: []string{"nosuch"}})
	var refused *client.ServiceError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "unknown_database", refused.Refusal.Error.Code)
	for _, reply := range []string{"dbrunner.store.shop.victim", "$KV.DBRUNNER_STATE.pause.shop", "_INBOX_dbrunner.x"} {
		require.NoError(t, w.nc.PublishRequest("dbrunner.api.running.shop", reply, nil))
	}
	require.NoError(t, w.nc.Publish("dbrunner.api.running.shop", nil))
	require.Eventually(t, func() bool {
		return runner.logs.FilterMessage("request rejected; nothing done").Len() == 4
	}, testTimeout, 10*time.Millisecond)
	require.Nil(t, w.stored("shop", "victim"))
}

// TestRunningWhileARunnerDrains: what it waits for is listed, although it takes no other requests any more.
func TestRunningWhileARunnerDrains(t *testing.T) {
	t.Parallel()
	w := setup(t)
	runner := w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t))))
	w.publish("shop", "query", `{"id":"long","timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"}`)
	executing := func(r *client.Running) bool { return len(r.Jobs) == 1 && r.Jobs[0].State == contract.JobExecuting }
	w.awaitRunning(executing, "shop")
	runner.stop()
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.State == "draining" })
	require.Eventually(t, func() bool { // the service ends
		_, err := w.nc.Request("dbrunner.api.health.shop", nil, time.Second)
		return err != nil
	}, testTimeout, 10*time.Millisecond)
	w.awaitRunning(executing, "shop")
	w.putCancelRequest("shop.long") // no runner takes the request any more
	runner.end(t)
	_, err := w.newClient().Running(t.Context(), client.RunningOptions{Databases: []string{"shop"}})
	require.ErrorIs(t, err, client.ErrNoService)
}

// putCancelRequest stores a cancel request as a runner does.
func (w *world) putCancelRequest(key string) {
	w.t.Helper()
	kv, err := w.js.KeyValue(w.t.Context(), "DBRUNNER_CONTROL")
	require.NoError(w.t, err)
	_, err = kv.Put(w.t.Context(), key, []byte(`{}`))
	require.NoError(w.t, err)
}

// purgeResults removes all stored results of a database.
func (w *world) purgeResults(database string) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_"+database)
	require.NoError(w.t, err)
	require.NoError(w.t, s.Purge(w.t.Context(), jetstream.WithPurgeSubject("dbrunner.results."+database+".>")))
}

// TestRecordedResult: the stored result as it is; without one the ledger's answer; without that none.
func TestRecordedResult(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dsn), withDatabase("bare", "sqlite", filepath.Join(t.TempDir(), "bare.db"), func(d *config.Database) { d.Ledger.Mode = "off" })))
	w.do("shop", "transaction", "create", createEffects) // from now on the ledger is there
	w.do("shop", "query", "read", `"sql":"SELECT 1 AS n"`)
	w.do("shop", "transaction", "failed", `"statements":[{"sql":"INSERT INTO effects (nosuch) VALUES (1)"}]`)
	w.do("bare", "query", "read", `"sql":"SELECT 1 AS n"`)
	stored := map[string][]byte{}
	for _, id := range []string{"create", "read", "failed"} {
		stored[id] = w.stored("shop", id)
		got := w.request("result.shop."+id, "")
		require.Empty(t, got.code)
		require.JSONEq(t, string(stored[id]), string(got.body), "as it is stored")
		requireSchema(t, "answer-result", got.body)
	}
	w.purgeResults("shop")
	w.purgeResults("bare")
	for _, id := range []string{"create", "failed"} {
		got := w.request("result.shop."+id, "")
		require.Empty(t, got.code, "%s %s", got.text, got.body)
		require.JSONEq(t, string(contract.MarkDuplicate(stored[id])), string(got.body))
		requireSchema(t, "answer-result", got.body)
		again, err := w.newClient().RecordedResult(t.Context(), "shop", id)
		require.NoError(t, err)
		require.True(t, again.Duplicate)
	}
	require.Nil(t, w.stored("shop", "create"), "asking stores nothing")
	for _, path := range []string{"result.shop.read", "result.bare.read", "result.shop.never"} {
		refused := w.request(path, "").refused(t, "404", "no_result_yet")
		require.True(t, refused.Error.Retryable)
	}
	_, err := w.newClient().RecordedResult(t.Context(), "shop", "never")
	require.ErrorIs(t, err, client.ErrNoResult)

	w.request("result.shop.create", "x").refused(t, "400", "invalid_body")
	w.request("result.shop.a+b", "").refused(t, "400", "invalid_id")
	w.request("result.shop", "").refused(t, "400", "invalid_subject")
	w.request("result.shop.a.b", "").refused(t, "400", "invalid_subject")
	w.request("result.nosuch.a", "").refused(t, "404", "unknown_database")
}

// TestRecordedResultOfWhatStarted: the row of a job that is executed at most once is there before it has an outcome.
func TestRecordedResultOfWhatStarted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dsn), withDatabase("watch", "postgres", dsn)))
	w.publish("shop", "statement", `{"id":"once","timeout":"1m","sql":"SELECT 1 AS n FROM pg_sleep(60)"}`)
	w.awaitSleeper("watch")
	w.request("result.shop.once", "").refused(t, "404", "no_result_yet")
	require.Equal(t, "cancelled", w.cancel(t, "shop", "once", "20s").Outcome)
	w.purgeResults("shop")
	require.Equal(t, "cancelled", parse(t, w.request("result.shop.once", "").body).Status)
}

// TestRecordedResultWithoutDatabase: a ledger that cannot be read proves nothing.
func TestRecordedResultWithoutDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("gone", "sqlite", "/nosuch/folder/gone.db")))
	refused := w.request("result.gone.a", "").refused(t, "503", "database_unavailable")
	require.True(t, refused.Error.Retryable)
	require.Equal(t, "a", refused.JobID)
}

// TestRunningIgnoresForgedAnswers of one who listens where runners do: those that are no answers, and those of parts that never
// come.
func TestRunningIgnoresForgedAnswers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	forger, err := w.nc.SubscribeSync("dbrunner.api.running.shop")
	require.NoError(t, err)
	go func() {
		m, err := forger.NextMsg(testTimeout)
		if err != nil {
			return
		}
		whole := contract.RunningAnswer{Version: 1, Runner: "forged", Process: "p", Database: "shop", Part: 1, Parts: 2, Jobs: []contract.RunningJob{{JobID: "\x1b[2J"}}}
		half, _ := json.Marshal(whole)
		for _, body := range []string{
			"", "no JSON", "[]", `{"part":1}`, `{"database":"shop","part":0,"parts":0}`, `{"database":"shop","part":3,"parts":2}`,
			`{"database":"audit","part":1,"parts":1,"jobs":[{"job_id":"forged"}]}`, `{"database":"shop","part":1,"parts":2000000000}`,
			`{"database":"shop","part":-1,"parts":1}`, string(half), string(half),
		} {
			_ = m.Respond([]byte(body)) // the test misses what is lost
		}
	}()
	found, err := w.newClient().Running(t.Context(), client.RunningOptions{Databases: []string{"shop"}, Wait: 5 * time.Second})
	require.NoError(t, err)
	require.Len(t, found.Runners, 1)
	require.Equal(t, "r1", found.Runners[0].Runner)
	for _, m := range found.Missing {
		require.Equal(t, client.MissingRunner{Database: "shop", Runner: "forged", Process: "p", Received: 1}, m, "its answer is not complete")
	}
}
