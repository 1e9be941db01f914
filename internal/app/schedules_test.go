package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/config"
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
