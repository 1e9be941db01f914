package crash

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// frozen waits until the process has stopped itself.
func (r *runner) frozen() {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
		_, rest, found := strings.Cut(string(stat), ") ")
		return err == nil && found && rest[0] == 'T'
	}, testTimeout, 5*time.Millisecond, "the runner was not stopped")
}

// consuming waits until the consumer is there: what is published then has a first delivery without any doubt.
func (w *world) consuming() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		_, err := w.js.Consumer(w.t.Context(), "DBRUNNER_JOBS_shop", "work")
		return err == nil
	}, testTimeout, 20*time.Millisecond)
}

// strict are configurations under which a runner rejects what others accept.
func strict() map[string]string {
	return map[string]string{
		"kind_not_allowed":   "SHOP_KINDS=query",
		"effect_not_allowed": "SHOP_EFFECTS=read_only,at_least_once",
		"invalid_value":      "SHOP_MAX_TIMEOUT=5s", // the job wants more
	}
}

func slowInsert(id, name string) string {
	return `{"timeout":"20s",` + insert(id, name)[1:]
}

// A runner with a stricter configuration is frozen after it has decided to reject a job. Another one executes the job, commits,
// and is frozen before it stores the result. The first one wakes up: what it has decided does not count.
func TestFrozenBetweenRejectionAndAnswer(t *testing.T) {
	t.Parallel()
	for code, setting := range strict() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			seen := w.startWatching()
			rejecting := w.start("rejecting", setting, "SHOP_TIMEOUT=5s", "DBRUNNER_FREEZE_AT=after_rejection")
			w.consuming()
			w.publish("transaction", slowInsert("a1", "a"))
			rejecting.frozen()
			accepting := w.start("accepting", "DBRUNNER_FREEZE_AT=before_store")
			accepting.frozen()
			require.Equal(t, 1, w.effects("a"))
			require.Nil(t, w.lookup("a1"))
			rejecting.thaw()
			require.Equal(t, "succeeded", w.stored("a1").Status, "by now the message is redelivered to the one that is awake")
			accepting.thaw()
			w.drained()
			require.Equal(t, "succeeded", w.stored("a1").Status)
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("a1"))
			require.Empty(t, w.deadLetters())
		})
	}
}

// The other way round: the rejection is on record when its runner is frozen. The other one finds it, and nothing takes effect.
func TestFrozenBetweenRecordAndAnswer(t *testing.T) {
	t.Parallel()
	for code, setting := range strict() {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			rejecting := w.start("rejecting", setting, "SHOP_TIMEOUT=5s", "DBRUNNER_FREEZE_AT=before_store")
			w.consuming()
			w.publish("transaction", slowInsert("a1", "a"))
			rejecting.frozen()
			require.Nil(t, w.lookup("a1"))
			w.start("accepting")
			got := w.stored("a1")
			rejecting.thaw()
			w.drained()
			require.Equal(t, "rejected", got.Status)
			require.Equal(t, code, got.Error.Code)
			require.Zero(t, w.effects("a"))
			require.Equal(t, got, w.stored("a1"))
		})
	}
}
