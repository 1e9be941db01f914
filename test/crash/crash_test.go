package crash

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The places between the steps of a job's way. Whatever dies there, the effect and the result are there once.
var places = []string{"after_commit", "before_store", "after_store", "after_reply", "after_letter", "after_ack"}

func TestKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			seen := w.startWatching()
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("transaction", insert("a1", "a"))
			first.died()
			w.start("second")
			got := w.stored("a1")
			require.Equal(t, "succeeded", got.Status)
			w.drained()
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("a1"), "subscribers see the result once")
			require.Equal(t, got, w.stored("a1"), "the result does not change any more")
		})
	}
}

func TestKilledAfterAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first", "DBRUNNER_CRASH_AT=before_store")
	w.serving()
	w.publish("transaction", `{"id":"f1","statements":[{"sql":"INSERT INTO effects (name) VALUES ('f')"},{"sql":"INSERT INTO later VALUES (1)"}]}`)
	first.died()
	w.exec(`CREATE TABLE later (n int)`) // now it would succeed: the failure was decided before
	w.start("second")
	got := w.stored("f1")
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "undefined_object", got.Error.Code)
	w.drained()
	require.Zero(t, w.effects("f"))
	require.Len(t, w.deadLetters(), 1)
}

func TestJobThatKillsItsRunner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("SHOP_SLOTS=40") // with the default limit of 20 deliveries, a neighbour is unlucky each time once in 4,000 runs
	const neighbours = 30
	poison := "DBRUNNER_CRASH_JOB=poison"
	r := w.start("r", poison)
	w.serving()
	w.publish("transaction", insert("poison", "poison"))
	for i := range neighbours {
		w.publish("transaction", insert(fmt.Sprintf("n%d", i), "neighbour"))
	}
	deaths := 0
	for w.lookup("poison") == nil {
		select {
		case <-r.exited:
			deaths++
			require.Less(t, deaths, 30)
			r = w.start("r", poison)
		case <-tick():
		}
	}
	require.Positive(t, deaths)
	got := w.stored("poison")
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "too_many_deliveries", got.Error.Code)
	for i := range neighbours {
		require.Equal(t, "succeeded", w.stored(fmt.Sprintf("n%d", i)).Status)
	}
	w.drained()
	require.Equal(t, neighbours, w.effects("neighbour"))
	require.Zero(t, w.effects("poison"))
	deadLetters := w.deadLetters()
	require.Len(t, deadLetters, 1)
	require.Equal(t, "too_many_deliveries", deadLetters[0].Get("Dbrunner-Reason"))
	t.Logf("the runner died %d times", deaths)
}

func TestGivenUpJobWhoseEffectHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("RUNNER_WORKER_MAX_DELIVERIES=2")
	for i := range 2 {
		r := w.start(fmt.Sprintf("r%d", i), "DBRUNNER_CRASH_AT=before_store")
		if i == 0 {
			w.serving()
			w.publish("transaction", insert("a1", "a"))
		}
		r.died()
	}
	w.start("last")
	require.Equal(t, "succeeded", w.stored("a1").Status)
	w.drained()
	require.Equal(t, 1, w.effects("a"))
	require.Empty(t, w.deadLetters())
}
