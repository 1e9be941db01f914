// Package migrations holds the examples in the folder migrations to what they show: each one migrates up, down as far as
// there are files that revert, and up again, on its engine.
package migrations

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/manager"
)

func TestMain(m *testing.M) {
	code := dbtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

const examples = "../../migrations"

// example is a folder with a database of its engine.
type example struct {
	engine     string
	connection func(testing.TB) string
	// used are statements that work when all but the last file is applied.
	used []string
	// stepwise is a file that cannot run in a transaction.
	stepwise string
}

func theExamples() map[string]example {
	return map[string]example{
		"rpa_db": {engine: "postgres", connection: dbtest.Postgres, stepwise: "V6__index_of_runs.sql", used: []string{
			"INSERT INTO queue_items (process_id, reference) SELECT id, 'R-1' FROM processes",
			"SELECT take_item(id, 1) FROM processes",
			"DO $$ BEGIN IF (SELECT sum(running) FROM workload) <> 2 THEN RAISE EXCEPTION 'not taken'; END IF; END $$",
			"UPDATE runs SET ended_at = now() - interval '2 years', outcome = 'done' WHERE id = 1",
		}},
		"rpa_db_sqlite": {engine: "sqlite", connection: func(t testing.TB) string { return filepath.Join(t.TempDir(), "rpa.db") }, used: []string{
			"INSERT INTO queue_items (process_id, reference) SELECT id, 'R-1' FROM processes",
			"INSERT INTO runs (item_id, robot_id) SELECT id, 1 FROM queue_items",
			"UPDATE robots SET site = site WHERE (SELECT sum(running) FROM workload) = 2",
			"UPDATE runs SET ended_at = '2001-01-01T00:00:00.000Z', outcome = 'done' WHERE id = 1",
		}},
		"rpa_db_sqlserver": {engine: "sqlserver", connection: dbtest.SQLServer, used: []string{
			"INSERT INTO queue_items (process_id, reference) SELECT id, N'R-1' FROM processes",
			"EXEC take_item @process = 1, @robot = 1",
			"IF (SELECT SUM(running) FROM workload) <> 1 THROW 50000, 'not taken', 1",
			"UPDATE runs SET ended_at = '2001-01-01', outcome = 'done'",
		}},
	}
}

// Every folder below migrations is an example that is held here.
func TestEveryFolderIsHeld(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(examples)
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			require.Contains(t, theExamples(), e.Name())
		}
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	for name, e := range theExamples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e.run(t, name)
		})
	}
}

func (e *example) run(t *testing.T, folder string) {
	cfg, m := e.open(t, folder)
	files, _, err := m.Folder()
	require.NoError(t, err)
	n := len(files.Files)
	last, before := files.Latest().Label, files.Files[n-2].Version.Label

	require.Len(t, run(t, m, migration.Up, before).Changes, n-1)
	require.Len(t, run(t, m, migration.Plan, "none").Plan, n-1)
	whole := e.engine != "sqlserver" || !dbtest.SQLServerLacks()[dbtest.LacksDefaultNames] // else the files apply, and no more
	if whole {
		e.downAndUp(t, m, n, before)
	}
	if whole {
		e.use(t, cfg)
	}
	up := run(t, m, migration.Up, "")
	require.Equal(t, [2]string{before, last}, [2]string{up.Before.Label, up.After.Label})
	require.Empty(t, run(t, m, migration.Validate, "").Faults)

	_, err = m.Run(t.Context(), migration.Request{Action: migration.Down, Target: before})
	refused, ok := errors.AsType[*db.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, contract.CodeMigrationRefused, refused.Code, "the last file shows that there may be no way down")
	require.Equal(t, last, run(t, m, migration.Status, "").After.Label)
}

func (e *example) downAndUp(t *testing.T, m *migration.Migrator, n int, before string) {
	t.Helper()
	require.Len(t, run(t, m, migration.Down, "none").Changes, n-1, "each file is reverted")
	plan := run(t, m, migration.Plan, "").Plan
	require.Len(t, plan, n)
	for _, p := range plan {
		require.Equal(t, p.File == e.stepwise, p.Stepwise != "", "%s: %s", p.File, p.Stepwise)
	}
	require.Len(t, run(t, m, migration.Up, before).Changes, n-1, "what reverts leaves nothing that is in the way")
}

func (e *example) open(t *testing.T, folder string) (*config.Config, *migration.Migrator) {
	t.Helper()
	cfg := config.Default()
	d := cfg.Defaults.NewDatabase(e.engine, config.NewSecret(e.connection(t)))
	d.Migrations.Folder = filepath.Join(examples, folder)
	if e.engine == "sqlserver" {
		d.Settings = map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"}
	}
	cfg.Databases[folder] = d
	require.NoError(t, cfg.Complete(manager.Words()))
	m, err := manager.OpenMigrations(cfg, folder, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return cfg, m
}

// use lives in the schema a little.
func (e *example) use(t *testing.T, cfg *config.Config) {
	t.Helper()
	for name := range cfg.Databases {
		engine, err := manager.MigrationEngine(cfg, name)
		require.NoError(t, err)
		sessions, err := engine.Open(false)
		require.NoError(t, err)
		for _, text := range e.used {
			_, err := sessions.ExecContext(t.Context(), text)
			require.NoError(t, err, text)
		}
		require.NoError(t, sessions.Close())
	}
}

func run(t *testing.T, m *migration.Migrator, action migration.Action, target string) *migration.Report {
	t.Helper()
	report, err := m.Run(t.Context(), migration.Request{Action: action, Target: target, Timeout: time.Minute})
	require.NoError(t, err, "%s %s", action, target)
	return report
}
