package crash

import (
	"fmt"
	"os"
	"path/filepath"
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
func (w *world) consuming(lane string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		_, err := w.js.Consumer(w.t.Context(), "DBRUNNER_JOBS_shop", lane)
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
		eachEngine(t, code, func(t *testing.T, w *world) {
			seen := w.startWatching()
			rejecting := w.start("rejecting", setting, "SHOP_TIMEOUT=5s", "DBRUNNER_FREEZE_AT=after_rejection")
			w.consuming("work")
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
		eachEngine(t, code, func(t *testing.T, w *world) {
			rejecting := w.start("rejecting", setting, "SHOP_TIMEOUT=5s", "DBRUNNER_FREEZE_AT=before_store")
			w.consuming("work")
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

// catalogs writes the catalogs of two runners and returns their settings: the older one rejects the call of the newer one.
func (w *world) catalogs(older map[string]string) (rejecting, accepting string) {
	w.t.Helper()
	w.set("SHOP_KINDS=call,transaction")
	write := func(files map[string]string) string {
		folder := w.t.TempDir()
		for name, text := range files {
			if w.kept == "dbrunner_ledger" { // SQLite has fewer types
				text = strings.ReplaceAll(text, "varchar(200)", "text")
			}
			require.NoError(w.t, os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o600))
		}
		return "SHOP_CATALOG_FOLDER=" + folder
	}
	newer := "params: {name: {type: varchar(200)}}\nstatements: [{sql: INSERT INTO effects (name) VALUES (:name)}]\n"
	return write(older), write(map[string]string{"insert": newer})
}

// olderCatalogs are what an older runner rejects a call by.
func olderCatalogs() map[string]map[string]string {
	return map[string]map[string]string{
		"unknown_call":  {"other": "statements: [{sql: DELETE FROM effects}]\n"},
		"unknown_key":   {"insert": "statements: [{sql: INSERT INTO effects (name) VALUES ('none')}]\n"},
		"invalid_value": {"insert": "params: {name: {type: varchar(200), schema: {type: string, minLength: 5}}}\nstatements: [{sql: INSERT INTO effects (name) VALUES (:name)}]\n"},
	}
}

const insertCall = `{"id":"c1","params":{"name":"a"}}`

// A runner with an older catalog is frozen after it has decided to reject a call. Another one executes the call, commits, and is
// frozen before it stores the result. What the first one has decided does not count.
func TestAnOlderCatalogIsFrozenAfterItsRejection(t *testing.T) {
	t.Parallel()
	for code, older := range olderCatalogs() {
		eachEngine(t, code, func(t *testing.T, w *world) {
			seen := w.startWatching()
			before, after := w.catalogs(older)
			rejecting := w.start("rejecting", before, "DBRUNNER_FREEZE_AT=after_rejection")
			w.consuming("call")
			w.publish("call.insert", insertCall)
			rejecting.frozen()
			accepting := w.start("accepting", after, "DBRUNNER_FREEZE_AT=before_store")
			accepting.frozen()
			require.Equal(t, 1, w.effects("a"))
			require.Nil(t, w.lookup("c1"))
			rejecting.thaw()
			require.Equal(t, "succeeded", w.stored("c1").Status)
			accepting.thaw()
			w.drained()
			require.Equal(t, "succeeded", w.stored("c1").Status)
			require.Equal(t, 1, w.effects("a"))
			require.Equal(t, 1, seen("c1"))
			require.Empty(t, w.deadLetters())
		})
	}
}

// The other way round: the rejection by an older catalog is on record, so the newer one executes nothing.
func TestAnOlderCatalogIsFrozenAfterItsRecord(t *testing.T) {
	t.Parallel()
	eachEngine(t, "unknown_call", func(t *testing.T, w *world) {
		before, after := w.catalogs(olderCatalogs()["unknown_call"])
		rejecting := w.start("rejecting", before, "DBRUNNER_FREEZE_AT=before_store")
		w.consuming("call")
		w.publish("call.insert", insertCall)
		rejecting.frozen()
		require.Nil(t, w.lookup("c1"))
		w.start("accepting", after)
		got := w.stored("c1")
		rejecting.thaw()
		w.drained()
		require.Equal(t, "rejected", got.Status)
		require.Equal(t, "unknown_call", got.Error.Code)
		require.Zero(t, w.effects("a"))
	})
}
