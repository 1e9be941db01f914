package crash

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// Promise: the jobs of a queue that the whole fleet runs at the same time are never more than its fleet_slots, also while a runner with jobs of
// the queue is killed and its jobs move on.
func TestFleetSlotsHoldThroughAKill(t *testing.T) {
	t.Parallel()
	const runners, fleetSlots, jobs = 5, 3, 60
	w := newWorld(t)
	w.set("SHOP_QUEUES=bulk", "SHOP_QUEUES_BULK_SLOTS=2", fmt.Sprintf("SHOP_QUEUES_BULK_FLEET_SLOTS=%d", fleetSlots))
	w.exec(`CREATE TABLE spans (name text NOT NULL, started timestamptz NOT NULL, finished timestamptz)`)
	var fleet []*runner
	for i := range runners {
		fleet = append(fleet, w.start(fmt.Sprintf("runner%d", i)))
	}
	w.serving()
	for i := range jobs {
		w.publishTo("queues.shop.bulk.transaction", fmt.Sprintf(`{"id":"q%d","statements":[
			{"sql":"INSERT INTO spans (name, started) VALUES ('q%[1]d', clock_timestamp())"},
			{"sql":"SELECT pg_sleep(0.1)"},
			{"sql":"UPDATE spans SET finished = clock_timestamp() WHERE name = 'q%[1]d'"}]}`, i))
	}
	var consumer jetstream.Consumer
	require.Eventually(t, func() bool {
		var err error
		consumer, err = w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "queue_bulk")
		return err == nil
	}, testTimeout, tickEvery)
	killed, most := false, 0
	require.Eventually(t, func() bool {
		info, err := consumer.Info(t.Context())
		if err != nil {
			return false
		}
		most = max(most, info.NumAckPending)
		if finished := jobs - int(info.NumPending) - info.NumAckPending; !killed && finished > 5 {
			killed = true
			fleet[w.busyRunner()].kill()
		}
		return info.NumPending == 0 && info.NumAckPending == 0
	}, testTimeout, 2*time.Millisecond)
	require.True(t, killed)
	w.drained()
	for i := range jobs {
		require.Equal(t, "succeeded", w.stored(fmt.Sprintf("q%d", i)).Status)
	}
	var overlap, rows int
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT count(*), max((SELECT count(*) FROM spans o WHERE o.started <= s.started AND o.finished > s.started))
		FROM spans s`).Scan(&rows, &overlap))
	require.Equal(t, jobs, rows, "each effect once")
	require.Equal(t, fleetSlots, overlap)
	require.LessOrEqual(t, most, fleetSlots)
}

// busyRunner returns the number of a runner that executes a job of the queue at this moment.
func (w *world) busyRunner() int {
	w.t.Helper()
	number := -1
	require.Eventually(w.t, func() bool {
		err := w.pool.QueryRow(w.t.Context(), `SELECT substring(application_name FROM 'runner([0-9])')::int FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(0.1)%' AND pid <> pg_backend_pid() LIMIT 1`).Scan(&number)
		return err == nil
	}, testTimeout, 5*time.Millisecond, "no job of the queue runs")
	return number
}
