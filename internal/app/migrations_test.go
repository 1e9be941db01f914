package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/app"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// migration is what tests look at in the result of a migration.
type migration struct {
	Status       string
	Runner       string
	VersionAfter string `json:"version_after"`
	Pending      []struct{ Version, File string }
	Files        []struct{ Version, State, Runner string }
	Problems     []struct{ File, Code string }
	Plan         []struct {
		File       string
		Statements []struct {
			Line int
			SQL  string
		}
	}
	Running *struct{ Session, File string }
	Error   struct{ Code, Message string }
}

func (w *world) migrate(database, id, rest string) (m migration) {
	w.t.Helper()
	w.do(database, "migration", id, rest)
	require.NoError(w.t, json.Unmarshal(w.stored(database, id), &m))
	return m
}

// folder makes a folder of migrations.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, dir, name, text)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

func withFolder(dir string) func(*config.Database) {
	return func(d *config.Database) { d.Migrations.Folder = dir }
}

var accounts = map[string]string{
	"V1__accounts.sql": "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);\nINSERT INTO accounts VALUES (1, 100);",
	"V2__owner.sql":    "ALTER TABLE accounts ADD owner VARCHAR(40);",
	"U2__owner.sql":    "ALTER TABLE accounts DROP COLUMN owner;",
}

func TestMigrationJobs(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(*testing.T, string) func(*config.Config){
		"sqlite": func(t *testing.T, dir string) func(*config.Config) {
			return withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withFolder(dir))
		},
		"postgres": func(t *testing.T, dir string) func(*config.Config) {
			return withDatabase("shop", "postgres", dbtest.Postgres(t), withFolder(dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			dir := folder(t, accounts)
			r := w.start(w.config("r1", database(t, dir)))
			migrationJobs(t, w, dir)
			r.end(t)
			require.Zero(t, w.waiting("shop"))
			for _, line := range r.logs.All() {
				require.NotContains(t, line.Message, "ALTER TABLE")
			}
		})
	}
}

func migrationJobs(t *testing.T, w *world, dir string) {
	t.Helper()
	plan := w.migrate("shop", "plan", `"action":"plan"`)
	require.Len(t, plan.Plan, 2)
	require.Equal(t, "INSERT INTO accounts VALUES (1, 100)", plan.Plan[0].Statements[1].SQL)
	require.Equal(t, 2, plan.Plan[0].Statements[1].Line)
	require.Equal(t, "none", plan.VersionAfter)

	up := w.migrate("shop", "up", `"action":"up"`)
	require.Equal(t, "succeeded", up.Status, "%+v", up)
	require.Equal(t, "2", up.VersionAfter)
	require.Len(t, up.Files, 2)
	require.Equal(t, "1", w.migrate("shop", "down", `"action":"down","target":1`).VersionAfter)
	require.Equal(t, "2", w.migrate("shop", "goto", `"action":"goto","target":"2"`).VersionAfter)
	require.Equal(t, "succeeded", w.do("shop", "query", "q", `"sql":"SELECT owner FROM accounts"`).Status)

	write(t, dir, "V3__broken.sql", "INSERT INTO accounts (id, balance) VALUES (2, 0);\nINSERT INTO nowhere VALUES ('hidden-value');")
	failed := w.migrate("shop", "broken", `"action":"up"`)
	require.Equal(t, "failed", failed.Status)
	require.Equal(t, "undefined_object", failed.Error.Code)
	require.Contains(t, failed.Error.Message, "V3__broken.sql, statement 2 of 2 (line 2)")
	require.NotContains(t, failed.Error.Message, "hidden-value")
	require.Equal(t, "2", failed.VersionAfter, "a failed job reports the state of the database, too")
	require.Equal(t, "failed", failed.Files[0].State)

	write(t, dir, "V1__accounts.sql", "SELECT 1")
	refused := w.migrate("shop", "edited", `"action":"up"`)
	require.Equal(t, "migration_refused", refused.Error.Code)
	require.Equal(t, "edited_file", refused.Problems[0].Code)
	write(t, dir, "v4.sql", "SELECT 1")
	unusable := w.migrate("shop", "misnamed", `"action":"status"`)
	require.Equal(t, "migration_folder", unusable.Error.Code)
	require.Equal(t, "v4.sql", unusable.Problems[0].File)

	rejected := w.do("shop", "migration", "bad", `"action":"upp"`)
	require.Equal(t, "rejected", rejected.Status)
	require.Equal(t, "action", rejected.Error.Faults[0].Path)
	require.Equal(t, "target", w.do("shop", "migration", "bad2", `"action":"down"`).Error.Faults[0].Path)
}

// TestManyDatabases: a hundred databases are migrated by two jobs each over two runners, which share them. It is
// as much as the others together, and runs before them.
func TestManyDatabases(t *testing.T) {
	const databases = 100
	w := setup(t)
	files, dir := t.TempDir(), folder(t, accounts)
	all := func(cfg *config.Config) {
		cfg.Worker.HeartbeatInterval = 10 * time.Second // as it is by default: each one looks at every lane
		for i := range databases {
			withDatabase(fmt.Sprintf("d%d", i), "sqlite", filepath.Join(files, fmt.Sprintf("d%d.db", i)), withFolder(dir), func(d *config.Database) {
				d.Pool.Min, d.Pool.Max = 0, 2
				d.Health.Interval = time.Minute
			})(cfg)
		}
	}
	w.start(w.config("r1", all))
	w.start(w.config("r2", all))
	for i := range databases {
		w.publish(fmt.Sprintf("d%d", i), "migration", `{"id":"first","action":"up","target":"1"}`)
		w.publish(fmt.Sprintf("d%d", i), "migration", `{"id":"all","action":"up"}`)
	}
	runners := map[string]int{}
	for i := range databases {
		name := fmt.Sprintf("d%d", i)
		for version, id := range map[string]string{"1": "first", "2": "all"} {
			w.await(name, id)
			var m migration
			require.NoError(t, json.Unmarshal(w.stored(name, id), &m))
			require.Equal(t, "succeeded", m.Status, "%s: %+v", name, m)
			require.Equal(t, version, m.VersionAfter)
			require.Len(t, m.Files, 1)
			runners[m.Runner]++
		}
	}
	require.Len(t, runners, 2, "both runners took part: %v", runners)
}

// TestMigrationsRace: jobs of two databases entries that lead to one database meet under its own lock.
func TestMigrationsRace(t *testing.T) {
	t.Parallel()
	w := setup(t)
	url, dir := dbtest.Postgres(t), folder(t, accounts)
	write(t, dir, "V3__slow.sql", "SELECT pg_sleep(0.5); INSERT INTO accounts (id, balance) VALUES (3, 3)")
	both := func(cfg *config.Config) {
		withDatabase("shop", "postgres", url, withFolder(dir))(cfg)
		withDatabase("same", "postgres", url, withFolder(dir))(cfg)
	}
	w.start(w.config("r1", both))
	w.start(w.config("r2", both))
	w.publish("shop", "migration", `{"id":"up","action":"up"}`)
	w.publish("same", "migration", `{"id":"up","action":"up"}`)
	ran := 0
	for _, name := range []string{"shop", "same"} {
		w.await(name, "up")
		var m migration
		require.NoError(t, json.Unmarshal(w.stored(name, "up"), &m))
		require.Equal(t, "succeeded", m.Status, "%+v", m)
		require.Equal(t, "3", m.VersionAfter)
		ran += len(m.Files)
	}
	require.Equal(t, 3, ran, "each file ran once")
}

// progressOf collects the progress messages of a database's migrations.
func (w *world) progressOf(database string) func() []map[string]any {
	w.t.Helper()
	var mu sync.Mutex
	var all []map[string]any
	_, err := w.nc.Subscribe("dbrunner.health.migration."+database, func(m *nats.Msg) {
		var reported map[string]any
		_ = json.Unmarshal(m.Data, &reported)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, reported)
	})
	require.NoError(w.t, err)
	require.NoError(w.t, w.nc.Flush())
	return func() []map[string]any {
		mu.Lock()
		defer mu.Unlock()
		return append([]map[string]any(nil), all...)
	}
}

func TestMigrationProgress(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dir := folder(t, map[string]string{"V1__a.sql": "SELECT 1;", "V2__slow.sql": "SELECT 1;\nSELECT pg_sleep(1.5);\nSELECT 2;"})
	w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t), withFolder(dir))))
	reported := w.progressOf("shop")
	w.publish("shop", "migration", `{"id":"up","action":"up"}`)
	require.Eventually(t, func() bool {
		for _, p := range reported() {
			if p["statement"] == 2.0 {
				require.Equal(t, "V2__slow.sql", p["file"])
				require.Equal(t, []any{2.0, 2.0, 3.0}, []any{p["file_index"], p["files"], p["statements"]})
				require.Equal(t, []any{"running", "r1", "up", "up"}, []any{p["state"], p["instance"], p["job_id"], p["action"]})
				return true
			}
		}
		return false
	}, testTimeout, 10*time.Millisecond)
	require.Equal(t, "succeeded", w.await("shop", "up").Status)
	require.Eventually(t, func() bool {
		all := reported()
		last := all[len(all)-1]
		return last["state"] == "succeeded" && last["at_version"] == "2"
	}, testTimeout, 10*time.Millisecond)
}

func TestMigrateOnStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dir := folder(t, accounts)
	write(t, dir, "V3__broken.sql", "INSERT INTO nowhere VALUES (1)")
	onStart := func(d *config.Database) { d.MigrateOnStart = true }
	r := w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withFolder(dir), onStart)))
	w.publish("shop", "query", `{"id":"q1","sql":"SELECT balance FROM accounts"}`)
	w.awaitHeartbeat("r1", func(h *heartbeat) bool {
		return h.Databases[0].State == "down" && strings.Contains(h.Databases[0].Reason, "V3__broken.sql")
	})
	require.Nil(t, w.stored("shop", "q1"), "jobs wait for the schema")
	write(t, dir, "V3__broken.sql", "INSERT INTO accounts (id, balance) VALUES (3, 3)")
	got := w.await("shop", "q1")
	require.Equal(t, "succeeded", got.Status)
	require.Equal(t, 2, got.RowCount)
	r.end(t)
}

func TestMigrateOnStartNeedsItsFolder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	onStart := func(d *config.Database) { d.MigrateOnStart = true }
	for name, dir := range map[string]string{
		"missing":  filepath.Join(t.TempDir(), "gone"),
		"misnamed": folder(t, map[string]string{"v1.sql": "SELECT 1", "R__x.sql": "SELECT 1"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), withFolder(dir), onStart))
			err := w.launch(app.Options{Config: cfg}).fails(t)
			var fault *manager.ConfigError
			require.ErrorAs(t, err, &fault)
			require.Contains(t, err.Error(), dir)
			if name == "misnamed" {
				require.Contains(t, err.Error(), "v1.sql")
				require.Contains(t, err.Error(), "R__x.sql")
			}
		})
	}
}
