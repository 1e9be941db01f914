package dbtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// MigrationHarness is what an engine brings to the suite of migrations.
type MigrationHarness struct {
	// Options returns complete options of an empty database that only this test uses.
	Options func(t testing.TB) db.Options
	// Engine is the engine's constructor.
	Engine func(db.Options) (migration.Engine, error)

	// Slow is a statement that runs for minutes unless it is stopped. RunsSlow is a query of one number: how many
	// sessions run it; empty if the engine's statements run in this process.
	Slow, RunsSlow string

	// Function creates a function or trigger with semicolons in its body, over the table item (id, name), and Called
	// is a query of one number that is 42 if it is there and works.
	Function, Called string

	// Alone is a statement that cannot run in a transaction, on the table item; AloneFails one that fails; AloneSlow one
	// that runs for minutes unless it is stopped.
	Alone, AloneFails string

	// Locked, where sessions can have locks on a table, takes one on item for its transaction that keeps ALTER TABLE out.
	Locked string

	// Blames: a failed lock of migrations names who has it.
	Blames bool
	// Lacks names what the server at hand is known not to do, see Features.Lacks.
	Lacks map[string]bool
}

// migrationWorld is one database with a folder.
type migrationWorld struct {
	t      *testing.T
	h      *MigrationHarness
	opts   db.Options
	engine migration.Engine
	files  fstest.MapFS
	m      *migration.Migrator
}

// RunMigrations holds an engine to what package migration wants of it.
func RunMigrations(t *testing.T, h MigrationHarness) {
	t.Helper()
	cases := []struct {
		name string
		run  func(w *migrationWorld)
	}{
		{"UpDownUp", (*migrationWorld).upDownUp},
		{"StatusCreatesNothing", (*migrationWorld).statusCreatesNothing},
		{"FailureLeavesNothing", (*migrationWorld).failureLeavesNothing},
		{"Edited", (*migrationWorld).edited},
		{"Missing", (*migrationWorld).missing},
		{"OutOfOrder", (*migrationWorld).outOfOrder},
		{"Baseline", (*migrationWorld).baseline},
		{"OtherTool", (*migrationWorld).otherTool},
		{"Dotted", (*migrationWorld).dotted},
		{"Placeholder", (*migrationWorld).placeholder},
		{"Function", (*migrationWorld).function},
		{"Stepwise", (*migrationWorld).stepwise},
		{"StepwiseFailure", (*migrationWorld).stepwiseFailure},
		{"Race", (*migrationWorld).race},
		{"LockHeld", (*migrationWorld).lockHeld},
		{"Stopped", (*migrationWorld).stopped},
		{"TimeLimit", (*migrationWorld).timeLimit},
		{"SessionState", (*migrationWorld).sessionState},
		{"Targets", (*migrationWorld).targets},
		{"Passed", (*migrationWorld).passed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newMigrationWorld(t, &h))
		})
	}
}

func newMigrationWorld(t *testing.T, h *MigrationHarness) *migrationWorld {
	t.Helper()
	w := &migrationWorld{t: t, h: h, opts: h.Options(t)}
	w.files = fstest.MapFS{
		"V1__item.sql":   file("CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL);"),
		"U1__item.sql":   file("DROP TABLE item;"),
		"V2__amount.sql": file("ALTER TABLE item ADD amount INTEGER;\nINSERT INTO item (id, name, amount) VALUES (1, 'a; b', 5); -- seed"),
		"U2__amount.sql": file("DELETE FROM item WHERE id = 1;\nALTER TABLE item DROP COLUMN amount;"),
		"README.md":      file("no migration"),
	}
	w.m = w.migrator("runner-1")
	w.exec("CREATE TABLE other (id INTEGER)") // SQLite's file is there from its first table on
	return w
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// migrator is another one for the same database, as another runner has it.
func (w *migrationWorld) migrator(runner string) *migration.Migrator {
	w.t.Helper()
	opts := w.opts
	opts.Runner = runner
	engine, err := w.h.Engine(opts)
	require.NoError(w.t, err)
	w.engine = engine
	m, err := migration.New(migration.Options{
		Engine: engine, Source: w.files, Where: "migrations/test_db", Runner: runner, Poll: 20 * time.Millisecond,
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, m.Close()) })
	return m
}

// add adds a file.
func (w *migrationWorld) add(name, text string) { w.files[name] = file(text) }

func (w *migrationWorld) run(req migration.Request) (*migration.Report, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	return w.m.Run(ctx, req)
}

// does runs an action that must succeed.
func (w *migrationWorld) does(action migration.Action, target string) *migration.Report {
	w.t.Helper()
	report, err := w.run(migration.Request{Action: action, Target: target})
	require.NoError(w.t, err)
	return report
}

// refuses runs an action that must fail with this code; empty: with any.
func (w *migrationWorld) refuses(code contract.Code, action migration.Action, target string) (*migration.Report, *db.Error) {
	w.t.Helper()
	return w.refusesAs(code, migration.Request{Action: action, Target: target})
}

func (w *migrationWorld) refusesAs(code contract.Code, req migration.Request) (*migration.Report, *db.Error) {
	w.t.Helper()
	report, err := w.run(req)
	require.Error(w.t, err)
	e, ok := errors.AsType[*db.Error](err)
	require.Truef(w.t, ok, "%T: %v", err, err)
	if code != "" {
		require.Equal(w.t, code, e.Code, e.Message)
	}
	require.NotNil(w.t, report)
	return report, e
}

// number runs a query of one number in a session of its own.
func (w *migrationWorld) number(query string) (n int) {
	w.t.Helper()
	sessions, err := w.engine.Open(false)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, sessions.Close()) }()
	require.NoError(w.t, sessions.QueryRowContext(w.t.Context(), query).Scan(&n), query)
	return n
}

func (w *migrationWorld) exec(statement string) {
	w.t.Helper()
	sessions, err := w.engine.Open(false)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, sessions.Close()) }()
	_, err = sessions.ExecContext(w.t.Context(), statement)
	require.NoError(w.t, err, statement)
}

// stored is golang-migrate's version, with a * where it is dirty.
func (w *migrationWorld) stored() string {
	w.t.Helper()
	sessions, err := w.engine.Open(false)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, sessions.Close()) }()
	var version int64
	var dirty bool
	require.NoError(w.t, sessions.QueryRowContext(w.t.Context(), "SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty))
	if dirty {
		return fmt.Sprintf("%d*", version)
	}
	return fmt.Sprint(version)
}

func labels(pending []migration.Pending) (out []string) {
	for _, p := range pending {
		out = append(out, p.Version.Label)
	}
	return out
}

// did writes what an action did, as in "up 1 done".
func did(report *migration.Report) (out []string) {
	for _, c := range report.Changes {
		out = append(out, fmt.Sprintf("%s %s %s", c.Direction, c.Version.Label, c.State))
	}
	return out
}
