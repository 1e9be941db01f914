package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// migrating makes a world whose database has a folder of migrations.
func migrating(t *testing.T, files map[string]string) (w *world, folder string) {
	t.Helper()
	w = newWorld(t)
	folder = t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	w.set("SHOP_MIGRATIONS_FOLDER=" + folder)
	return w, folder
}

// migration is what tests look at in the result of a migration.
type migration struct {
	Status        string
	Deliveries    int
	Runner        string
	VersionBefore string `json:"version_before"`
	VersionAfter  string `json:"version_after"`
	Dirty         bool
	PendingCount  int `json:"pending_count"`
	Files         []struct{ Version, Direction, State string }
	History       []struct{ Version, Direction, State string }
	Interrupted   string
	Notes         []string
	Error         struct{ Code, Message string }
}

func (w *world) migrated(id string) (m migration) {
	w.t.Helper()
	w.stored(id)
	require.NoError(w.t, json.Unmarshal(w.lookup(id), &m))
	return m
}

// status asks how the database stands.
func (w *world) status(id string) migration {
	w.t.Helper()
	w.publish("migration", fmt.Sprintf(`{"id":%q,"action":"status"}`, id))
	return w.migrated(id)
}

// once is a file whose effect can be counted.
func once(name string) string {
	return fmt.Sprintf("INSERT INTO effects (name) VALUES ('%s');\nCREATE TABLE made_by_%s (id integer);", name, name)
}

// TestKilledInAMigration: wherever a runner dies in a file that runs in a transaction, the next one goes on, and the file
// takes effect once.
func TestKilledInAMigration(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"migration_noted", "migration_dirty", "migration_statement", "migration_applied", "before_store", "after_store"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w, _ := migrating(t, map[string]string{"V1__one.sql": once("one"), "V2__two.sql": once("two"), "U1__one.sql": "DROP TABLE made_by_one"})
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("migration", `{"id":"m1","action":"up"}`)
			first.died()
			w.start("second")
			got := w.migrated("m1")
			require.Equal(t, "succeeded", got.Status, "%+v", got)
			require.Equal(t, [2]string{"none", "2"}, [2]string{got.VersionBefore, got.VersionAfter}, "%+v", got)
			require.False(t, got.Dirty)
			require.Equal(t, 1, w.effects("one"))
			require.Equal(t, 1, w.effects("two"))
			status := w.status("s1")
			require.Equal(t, "2", status.VersionAfter)
			require.Empty(t, status.Interrupted)
			done := map[string]int{}
			for _, f := range status.History {
				if f.State == "done" {
					done[f.Version]++
				}
			}
			require.Equal(t, map[string]int{"1": 1, "2": 1}, done, "%+v", status.History)
			w.drained()
		})
	}
}

// TestKilledStepwise: where a file cannot run in a transaction and its runner died in a statement, nothing is guessed:
// the database reports what is known, refuses more, and is repaired.
func TestKilledStepwise(t *testing.T) {
	t.Parallel()
	for place, says := range map[string]string{
		"migration_statement_begun": "statement 1 (line 2: CREATE TABLE) may have taken effect",
		"migration_statement":       "statement 1 (line 2: CREATE TABLE) may have taken effect",
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w, _ := migrating(t, map[string]string{
				"V1__one.sql":  once("one"),
				"V2__step.sql": "-- dbrunner: no-transaction\nCREATE TABLE IF NOT EXISTS step (id integer);\nINSERT INTO effects (name) VALUES ('step');",
			})
			zero := w.start("zero")
			w.serving()
			w.publish("migration", `{"id":"m0","action":"up","target":"1"}`)
			require.Equal(t, "succeeded", w.migrated("m0").Status)
			w.drained()
			zero.kill()

			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.publish("migration", `{"id":"m1","action":"up"}`)
			first.died()
			w.start("second")
			got := w.migrated("m1")
			require.Equal(t, "failed", got.Status)
			require.Equal(t, "migration_dirty", got.Error.Code)
			require.Contains(t, got.Error.Message, says)
			require.True(t, got.Dirty)
			require.Equal(t, "1", got.VersionAfter)
			require.Contains(t, w.status("s1").Interrupted, says)
			w.publish("migration", `{"id":"r1","action":"repair","target":"1"}`)
			require.Equal(t, "succeeded", w.migrated("r1").Status)
			w.publish("migration", `{"id":"m2","action":"up"}`)
			require.Equal(t, "2", w.migrated("m2").VersionAfter)
			require.Equal(t, 1, w.effects("step"))
			w.drained()
		})
	}
}

// TestKilledInALongStatement: the server goes on for a moment with what a killed runner has asked for. The next runner
// waits for the lock, which the server gives back when it has ended that.
func TestKilledInALongStatement(t *testing.T) {
	t.Parallel()
	w, _ := migrating(t, map[string]string{"V1__slow.sql": once("slow") + "\nSELECT pg_sleep(8);"})
	first := w.start("first")
	w.serving()
	w.publish("migration", `{"id":"m1","action":"up"}`)
	w.sleeping("SELECT pg_sleep(8)")
	w.start("second")
	first.kill()
	got := w.migrated("m1")
	require.Equal(t, "succeeded", got.Status, "%+v", got)
	require.Equal(t, "second", got.Runner)
	require.Equal(t, 1, w.effects("slow"))
	w.drained()
}

// TestMigrationOutlivesItsLease: NATS is away for longer than the ack wait while a migration runs. It goes on under its
// lock; a runner that gets the job meanwhile waits, and finds it done.
func TestMigrationOutlivesItsLease(t *testing.T) {
	t.Parallel()
	w, _ := migrating(t, map[string]string{"V1__slow.sql": once("slow") + "\nSELECT pg_sleep(6);", "V2__two.sql": once("two")})
	w.start("first")
	w.start("second")
	w.serving()
	w.publish("migration", `{"id":"m1","action":"up"}`)
	w.sleeping("SELECT pg_sleep(6)")
	w.node.Stop()
	time.Sleep(2 * ackWait) // by the clock: the lease has to expire while no runner can extend it
	w.node.Start()
	got := w.migrated("m1")
	require.Equal(t, "succeeded", got.Status, "%+v", got)
	require.Equal(t, "2", got.VersionAfter)
	require.Equal(t, 1, w.effects("slow"), "no runner ran the file a second time")
	require.Equal(t, 1, w.effects("two"))
	for _, f := range w.status("s1").History {
		require.Equal(t, "done", f.State, "and nothing was stopped in the middle")
	}
	w.drained()
}

// TestMigrationLongerThanTheAckWait keeps its lease.
func TestMigrationLongerThanTheAckWait(t *testing.T) {
	t.Parallel()
	w, _ := migrating(t, map[string]string{"V1__slow.sql": once("slow") + "\nSELECT pg_sleep(4);"})
	w.start("first")
	w.start("second")
	w.serving()
	w.publish("migration", `{"id":"m1","action":"up"}`)
	got := w.migrated("m1")
	require.Equal(t, "succeeded", got.Status)
	require.Equal(t, 1, got.Deliveries)
	require.Equal(t, 1, w.effects("slow"))
	w.drained()
}

// TestDrainInAMigration: a runner that has to go stops its migration, which leaves nothing, and hands it over.
func TestDrainInAMigration(t *testing.T) {
	t.Parallel()
	w, folder := migrating(t, map[string]string{"V1__slow.sql": once("slow") + "\nSELECT pg_sleep(100);"})
	first := w.start("first", "RUNNER_WORKER_DRAIN_TIMEOUT=1s")
	w.serving()
	w.publish("migration", `{"id":"m1","action":"up"}`)
	w.sleeping("SELECT pg_sleep(100)")
	first.signal(syscall.SIGTERM)
	first.wait()
	require.NoError(t, first.err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__slow.sql"), []byte(once("slow")), 0o600))
	w.start("second")
	got := w.migrated("m1")
	require.Equal(t, "succeeded", got.Status, "%+v", got)
	require.Equal(t, 1, w.effects("slow"))
	w.drained()
}
