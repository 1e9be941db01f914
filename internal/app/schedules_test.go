package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
)

// TestSchedulesRunJobs: two runners fire a schedule, each tick has one effect; one bad record stops no other; a paused schedule pauses
// no jobs; and without the bucket the runners run jobs, and report it.
func TestSchedulesRunJobs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	shop := withSQLite(t, "shop")
	r1 := w.start(w.config("r1", shop))
	w.start(w.config("r2", shop))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE ticks (id INTEGER PRIMARY KEY)"}]`).Status)
	kv, err := w.js.KeyValue(t.Context(), "DBRUNNER_SCHEDULES")
	require.NoError(t, err)
	put := func(key, record string) {
		_, err := kv.Put(t.Context(), key, []byte(record))
		require.NoError(t, err)
	}
	put("jobs.shop.transaction.often", `{"every":"1s","overlap":"allow","job":{"statements":[{"sql":"INSERT INTO ticks DEFAULT VALUES"}]}}`)
	state := func(key string) *contract.ScheduleState {
		e, err := w.state().Get(t.Context(), "schedule."+key)
		if err != nil {
			return nil
		}
		s, err := contract.ReadScheduleState(e.Value())
		require.NoError(t, err)
		return s
	}
	soon(t, func() bool { s := state("jobs.shop.transaction.often"); return s != nil && s.Fired >= 3 })

	// Another one is bad, by the database's own rules.
	put("jobs.shop.query.bad", `{"every":"1s","job":{"sql":"SELECT :n AS n"}}`)
	h := w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Schedules != nil && h.Schedules.Failing == 1 })
	require.Equal(t, 2, h.Schedules.Total)
	require.Equal(t, "jobs.shop.query.bad", h.Schedules.Errors[0].Key)
	require.Contains(t, h.Schedules.Errors[0].Error, "job: ")
	require.Equal(t, contract.ScheduleInError, state("jobs.shop.query.bad").Status)
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return h.Health != nil && h.Verdict == contract.Degraded && strings.Contains(strings.Join(h.Reasons, " "), "the schedule jobs.shop.query.bad does not fire")
	})
	require.NoError(t, kv.Delete(t.Context(), "jobs.shop.query.bad"))

	// Its pause is no pause of the database.
	_, err = w.state().Put(t.Context(), "pause.shop.schedule.jobs.shop.transaction.often", []byte(`{"reason":"enough","by":"ada"}`))
	require.NoError(t, err)
	soon(t, func() bool { return state("jobs.shop.transaction.often").Skipped > 0 })
	require.Equal(t, "paused by ada: enough", state("jobs.shop.transaction.often").LastSkipped.Reason)
	fired := state("jobs.shop.transaction.often").Fired
	require.Equal(t, "succeeded", w.do("shop", "query", "meanwhile", `"sql":"SELECT 1 AS n"`).Status)
	require.Equal(t, fired, state("jobs.shop.transaction.often").Fired)
	soon(t, func() bool { return w.waiting("shop") == 0 })
	counted := w.do("shop", "query", "count", `"sql":"SELECT count(*) AS n FROM ticks"`)
	require.Equal(t, []any{map[string]any{"n": float64(fired)}}, counted.Rows, "each fired tick has one effect")

	// The bucket goes away: the runner that manages the topology makes it again, and reports that.
	require.NoError(t, w.js.DeleteKeyValue(t.Context(), "DBRUNNER_SCHEDULES"))
	w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool {
		return h.Schedules != nil && strings.Contains(h.Schedules.Problem, "was recreated")
	})
	require.Equal(t, "succeeded", w.do("shop", "query", "without", `"sql":"SELECT 1 AS n"`).Status)
	r1.end(t)
}

// TestSchedulesOfCallsAndQueues fires calls, jobs of a queue and calls of a queue, each on its own subject; a schedule of a queue that
// is not configured, or of a call that the catalog does not have, reports it and stops no other.
func TestSchedulesOfCallsAndQueues(t *testing.T) {
	t.Parallel()
	forEngines(t, func(t *testing.T, engine, connection string) {
		w := setup(t)
		calls := catalogOf(t, t.TempDir(), map[string]string{"note": "params: {what: {schema: {type: string}}}\nstatements: [{sql: \"INSERT INTO notes VALUES (:what)\"}]\n"}, jobs.Kinds()...)
		queue := func(d *config.Database) { d.Queues = map[string]*config.Queue{"bulk": {}} }
		w.start(w.config("r1", withDatabase("bank", engine, connection, calls, queue)))
		require.Equal(t, "succeeded", w.do("bank", "transaction", "create", `"statements":[{"sql":"CREATE TABLE notes (what varchar(100))"}]`).Status)
		kv, err := w.js.KeyValue(t.Context(), "DBRUNNER_SCHEDULES")
		require.NoError(t, err)
		put := func(key, job string) {
			_, err := kv.Put(t.Context(), key, []byte(`{"every":"1s","overlap":"allow","job":`+job+`}`))
			require.NoError(t, err)
		}
		put("jobs.bank.call.note.plain", `{"params":{"what":"call"}}`)
		put("queues.bank.bulk.transaction.raw", `{"statements":[{"sql":"INSERT INTO notes VALUES ('queue')"}]}`)
		put("queues.bank.bulk.call.note.both", `{"params":{"what":"call in the queue"}}`)
		put("queues.bank.nosuch.query.lost", `{"sql":"SELECT 1 AS n"}`)
		put("jobs.bank.call.nosuch.lost", `{}`)
		state := func(key string) *contract.ScheduleState {
			e, err := w.state().Get(t.Context(), "schedule."+key)
			if err != nil {
				return &contract.ScheduleState{}
			}
			s, err := contract.ReadScheduleState(e.Value())
			require.NoError(t, err)
			return s
		}
		keys := map[string]string{
			"jobs.bank.call.note.plain": "call", "queues.bank.bulk.transaction.raw": "queue", "queues.bank.bulk.call.note.both": "call in the queue",
		}
		for key := range keys {
			soon(t, func() bool { return state(key).Fired >= 2 })
		}
		soon(t, func() bool {
			last := state("queues.bank.nosuch.query.lost").LastUnconfirmed
			return last != nil && strings.Contains(last.Reason, "does not take dbrunner.queues.bank.nosuch.query")
		})
		soon(t, func() bool {
			return strings.Contains(state("jobs.bank.call.nosuch.lost").Error, "no statement of this name")
		})

		for key := range keys { // paused one by one, each by its own record
			_, err = w.state().Put(t.Context(), "pause.bank.schedule."+key, []byte(`{"reason":"enough"}`))
			require.NoError(t, err)
			soon(t, func() bool { return state(key).Skipped > 0 })
		}
		soon(t, func() bool { return w.waiting("bank") == 0 })
		for key, what := range keys {
			counted := w.do("bank", "query", "count-"+strings.ReplaceAll(key, ".", "-"), `"sql":"SELECT count(*) AS n FROM notes WHERE what = '`+what+`'"`)
			require.Equal(t, fmt.Sprintf("[map[n:%d]]", state(key).Fired), fmt.Sprint(counted.Rows), "each fired tick of %s has one effect", key)
		}
	})
}

// soon waits for something.
func soon(t *testing.T, so func() bool) {
	t.Helper()
	require.Eventually(t, so, time.Minute, 20*time.Millisecond)
}

// TestARunnerStartsWithoutTheBucket of schedules, where it must not create it.
func TestARunnerStartsWithoutTheBucket(t *testing.T) {
	t.Parallel()
	w := setup(t)
	shop := withSQLite(t, "shop")
	w.start(w.config("first", shop)).end(t)
	require.NoError(t, w.js.DeleteKeyValue(t.Context(), "DBRUNNER_SCHEDULES"))
	w.start(w.config("r1", shop, func(c *config.Config) { c.Topology.Mode = config.TopologyVerify }))
	require.Equal(t, "succeeded", w.do("shop", "query", "q", `"sql":"SELECT 1 AS n"`).Status)
	h := w.awaitPaused("shop", "r1", func(h *contract.DatabaseHeartbeat) bool { return h.Schedules != nil && h.Schedules.Problem != "" })
	require.Contains(t, h.Schedules.Problem, "the bucket DBRUNNER_SCHEDULES or DBRUNNER_STATE is missing; runner topology apply creates it")
}
