package dbtest

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

func (w *migrationWorld) upDownUp() {
	t := w.t
	plan := w.does(migration.Plan, "")
	require.Len(t, plan.Plan, 2)
	if w.engine.Dialect().Separator == "" { // else the file is one batch
		require.Len(t, plan.Plan[1].Statements, 2)
	}
	up := w.does(migration.Up, "")
	require.Equal(t, []string{"up 1 done", "up 2 done"}, did(up))
	require.Equal(t, [3]string{"none", "2", "2"}, [3]string{up.Before.Label, up.After.Label, up.Latest.Label})
	require.False(t, up.Dirty)
	require.Empty(t, up.Pending)
	require.Empty(t, up.Faults)
	require.Equal(t, "2", w.stored())
	require.Equal(t, 5, w.number("SELECT amount FROM item WHERE id = 1"))

	require.Empty(t, did(w.does(migration.Up, "")), "nothing to do is success")
	require.Empty(t, did(w.does(migration.Up, "1")), "up never goes down")

	down := w.does(migration.Down, "1")
	require.Equal(t, []string{"down 2 done"}, did(down))
	require.Equal(t, [2]string{"2", "1"}, [2]string{down.Before.Label, down.After.Label})
	require.Equal(t, []string{"2"}, labels(down.Pending))
	require.Empty(t, did(w.does(migration.Down, "1")))

	none := w.does(migration.Goto, "none")
	require.Equal(t, []string{"down 1 done"}, did(none))
	require.True(t, none.After.IsNone())

	again := w.does(migration.Goto, "2")
	require.Equal(t, []string{"up 1 done", "up 2 done"}, did(again))
	require.Equal(t, "2", w.stored())

	status := w.does(migration.Status, "")
	require.Len(t, status.History, 6)
	for _, c := range status.History {
		require.Equal(t, "runner-1", c.Runner)
		require.Len(t, c.SHA256, 64)
		require.WithinDuration(t, time.Now(), c.At, 5*time.Minute)
	}
	require.Empty(t, status.Problem)
	require.Nil(t, status.Running)
}

func (w *migrationWorld) statusCreatesNothing() {
	t := w.t
	for _, action := range []migration.Action{migration.Status, migration.Validate, migration.Plan} {
		report := w.does(action, "")
		require.True(t, report.After.IsNone())
		require.Equal(t, []string{"1", "2"}, labels(report.Pending))
	}
	_, _ = w.refuses(contract.CodeMigrationTarget, migration.Up, "7")
	sql := w.engine.SQL()
	require.Zero(t, w.number(sql.HasVersion))
	require.Zero(t, w.number(sql.HasHistory))
}

func (w *migrationWorld) failureLeavesNothing() {
	t := w.t
	w.add("V3__broken.sql", "INSERT INTO item (id, name) VALUES (2, 'secret-value');\n\nINSERT INTO\n  nowhere (id) VALUES (12345);\nDELETE FROM item;")
	report, e := w.refuses(w.undefined(), migration.Up, "")
	require.Equal(t, []string{"up 1 done", "up 2 done", "up 3 failed"}, did(report))
	if w.engine.Dialect().Separator == "" {
		require.Contains(t, e.Message, "V3__broken.sql, statement 2 of 3 (line ")
	}
	require.Contains(t, e.Message, "V3__broken.sql, ")
	require.Contains(t, e.Message, "nothing of this file is applied")
	require.NotContains(t, e.Message, "secret-value")
	require.NotContains(t, e.Message, "12345")
	require.Equal(t, "2", report.After.Label)
	require.False(t, report.Dirty)
	require.Equal(t, "2", w.stored())
	require.Equal(t, 1, w.number("SELECT COUNT(*) FROM item"))

	w.add("V3__broken.sql", "INSERT INTO item (id, name) VALUES (2, 'mended')")
	require.Equal(t, []string{"up 3 done"}, did(w.does(migration.Up, "")), "a file that was never applied may be changed")
}

func (w *migrationWorld) edited() {
	t := w.t
	w.does(migration.Up, "")
	text := string(w.files["V1__item.sql"].Data)
	w.add("V1__item.sql", strings.ReplaceAll(text, "\n", "\r\n"))
	require.Empty(t, w.does(migration.Validate, "").Faults, "line ends make no difference")
	w.add("V1__item.sql", text+"\n-- more")
	w.add("V3__more.sql", "DELETE FROM item")
	report, e := w.refuses(contract.CodeMigrationRefused, migration.Up, "")
	require.Contains(t, e.Message, "V1__item.sql")
	require.Equal(t, migration.FaultEdited, report.Faults[0].Code)
	require.Equal(t, 1, w.number("SELECT COUNT(*) FROM item"), "nothing was run")
	require.Equal(t, migration.FaultEdited, w.does(migration.Validate, "").Faults[0].Code)

	repaired := w.does(migration.Repair, "2")
	require.Equal(t, []string{"adopt 1 done"}, did(repaired))
	require.NotEmpty(t, repaired.Notes)
	require.Equal(t, []string{"up 3 done"}, did(w.does(migration.Up, "")))
}

func (w *migrationWorld) missing() {
	t := w.t
	w.does(migration.Up, "")
	delete(w.files, "V1__item.sql")
	delete(w.files, "U1__item.sql")
	report, _ := w.refuses(contract.CodeMigrationRefused, migration.Up, "")
	require.Equal(t, migration.FaultMissing, report.Faults[0].Code)
	require.Equal(t, []string{"forget 1 done"}, did(w.does(migration.Repair, "2")))
	require.Empty(t, w.does(migration.Up, "").Faults)
	_, e := w.refuses(contract.CodeMigrationTarget, migration.Down, "1")
	require.Contains(t, e.Message, "the folder has 2")
}

func (w *migrationWorld) outOfOrder() {
	t := w.t
	w.add("V5__last.sql", "INSERT INTO item (id, name) VALUES (5, 'five')")
	w.does(migration.Up, "")
	w.add("V3__late.sql", "INSERT INTO item (id, name) VALUES (3, 'three')")
	report, _ := w.refuses(contract.CodeMigrationRefused, migration.Up, "")
	require.Equal(t, migration.FaultOutOfOrder, report.Faults[0].Code)
	late, err := w.run(migration.Request{Action: migration.Up, OutOfOrder: true})
	require.NoError(t, err)
	require.Equal(t, []string{"up 3 done"}, did(late))
	require.Equal(t, "5", late.After.Label)
	require.Equal(t, "5", w.stored())
	require.Empty(t, w.does(migration.Validate, "").Faults)
	_, _ = w.refuses(contract.CodeMigrationRefused, migration.Down, "2") // there is no file that reverts 5
}

func (w *migrationWorld) baseline() {
	t := w.t
	w.exec("CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL)")
	_, _ = w.refuses(contract.CodeMigrationTarget, migration.Baseline, "none")
	report := w.does(migration.Baseline, "1")
	require.Equal(t, []string{"adopt 1 done"}, did(report))
	require.Equal(t, "1", w.stored())
	require.Empty(t, did(w.does(migration.Baseline, "1")), "done before")
	require.Equal(t, []string{"up 2 done"}, did(w.does(migration.Up, "")))
	_, _ = w.refuses(contract.CodeMigrationRefused, migration.Baseline, "1")
	require.Equal(t, []string{"down 2 done", "down 1 done"}, did(w.does(migration.Down, "none")))
}

func (w *migrationWorld) otherTool() {
	t := w.t
	versions, err := w.engine.Versions(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, versions.Close()) }()
	w.exec("CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL)")
	require.NoError(t, versions.Set(t.Context(), 1, false))
	status := w.does(migration.Status, "")
	require.Equal(t, "1", status.After.Label)
	require.Equal(t, []string{"2"}, labels(status.Pending))
	report, _ := w.refuses(contract.CodeMigrationRefused, migration.Up, "")
	require.Equal(t, migration.FaultUnadopted, report.Faults[0].Code)
	_, _ = w.refuses(contract.CodeMigrationRefused, migration.Baseline, "2")
	w.does(migration.Baseline, "1")
	w.does(migration.Up, "")

	require.NoError(t, versions.Set(t.Context(), 1, false))
	report, _ = w.refuses(contract.CodeMigrationRefused, migration.Up, "")
	require.Equal(t, migration.FaultVersion, report.Faults[0].Code)
	require.NoError(t, versions.Set(t.Context(), 9, true))
	_, e := w.refuses(contract.CodeMigrationDirty, migration.Up, "")
	require.Contains(t, e.Message, "version 9 is marked dirty by another tool")
	require.NotEmpty(t, w.does(migration.Status, "").Problem)
	w.does(migration.Repair, "2")
	require.Empty(t, did(w.does(migration.Up, "")))
	require.Equal(t, "2", w.stored())
}

func (w *migrationWorld) dotted() {
	t := w.t
	w.does(migration.Up, "")
	w.add("V1_2__between.sql", "INSERT INTO item (id, name) VALUES (12, 'x')")
	w.add("V2.10__ten.sql", "INSERT INTO item (id, name) VALUES (210, 'x')")
	w.add("V2_9__nine.sql", "INSERT INTO item (id, name) VALUES (29, 'x')")
	status := w.does(migration.Status, "")
	require.Equal(t, "2", status.After.Label)
	require.Equal(t, []string{"1.2", "2.9", "2.10"}, labels(status.Pending))
	require.Equal(t, migration.FaultOutOfOrder, status.Faults[0].Code)
	delete(w.files, "V1_2__between.sql")
	require.Equal(t, []string{"up 2.9 done", "up 2.10 done"}, did(w.does(migration.Up, "")))
	require.Equal(t, "2001000000000", w.stored())
	require.Empty(t, w.does(migration.Validate, "").Faults)
	w.add("U2_10__ten.sql", "DELETE FROM item WHERE id = 210")
	w.add("U2_9__nine.sql", "DELETE FROM item WHERE id = 29")
	require.Equal(t, "1", w.does(migration.Goto, "1").After.Label)
	require.Equal(t, "1000000000000", w.stored())
}

// placeholder: a file of comments is applied and recorded like any other, up and down.
func (w *migrationWorld) placeholder() {
	t := w.t
	w.add("V3__reserved.sql", "-- kept for its number\n/* nothing */\n")
	w.add("U3__reserved.sql", "-- nothing to revert")
	w.add("V4__marked.sql", "-- dbrunner: no-transaction\n-- nothing")
	plan := w.does(migration.Plan, "")
	require.Empty(t, plan.Plan[2].Statements)
	require.Equal(t, []string{"up 1 done", "up 2 done", "up 3 done"}, did(w.does(migration.Up, "3")))
	require.Equal(t, "3", w.stored())
	require.Equal(t, []string{"down 3 done"}, did(w.does(migration.Down, "2")))
	require.Equal(t, []string{"up 3 done", "up 4 done"}, did(w.does(migration.Up, "")))
	require.Empty(t, w.does(migration.Validate, "").Faults)
	w.add("V3__reserved.sql", "-- another text")
	_, _ = w.refuses(contract.CodeMigrationRefused, migration.Up, "")
}

func (w *migrationWorld) function() {
	w.add("V3__function.sql", w.h.Function)
	w.does(migration.Up, "")
	require.Equal(w.t, 42, w.number(w.h.Called))
}

func (w *migrationWorld) stepwise() {
	t := w.t
	w.add("V3__alone.sql", "INSERT INTO item (id, name) VALUES (3, 'x');\n"+separator(w.engine)+w.h.Alone)
	plan := w.does(migration.Plan, "")
	require.NotEmpty(t, plan.Plan[2].Stepwise)
	require.Empty(t, plan.Plan[1].Stepwise)
	require.Equal(t, []string{"up 1 done", "up 2 done", "up 3 done"}, did(w.does(migration.Up, "")))
	require.Equal(t, "3", w.stored())
	w.add("V4__marked.sql", "-- dbrunner: no-transaction\nINSERT INTO item (id, name) VALUES (4, 'x')")
	require.NotEmpty(t, w.does(migration.Plan, "").Plan[0].Stepwise)
	w.does(migration.Up, "")
	require.Equal(t, 2, w.number("SELECT COUNT(*) FROM item WHERE id IN (3, 4)"))
}

// separator is what stands between two statements that must not be sent together.
func separator(engine migration.Engine) string {
	if word := engine.Dialect().Separator; word != "" {
		return word + "\n"
	}
	return ""
}

func (w *migrationWorld) stepwiseFailure() {
	t := w.t
	between := separator(w.engine)
	w.add("V3__alone.sql", "INSERT INTO item (id, name) VALUES (3, 'x');\n"+between+w.h.AloneFails+";\n"+between+"INSERT INTO item (id, name) VALUES (4, 'x')")
	report, e := w.refuses(w.undefined(), migration.Up, "")
	require.Contains(t, e.Message, "statement 2 of 3")
	require.True(t, report.Dirty)
	require.Equal(t, "3*", w.stored())
	require.Contains(t, report.Problem, "statement 1 is applied, statement 2")
	require.Contains(t, report.Problem, "repair with target 3")
	_, e = w.refuses(contract.CodeMigrationDirty, migration.Up, "")
	require.Contains(t, e.Message, "V3__alone.sql was interrupted")
	w.exec("DELETE FROM item WHERE id = 3")
	repaired := w.does(migration.Repair, "2")
	require.Contains(t, repaired.Notes[0], "V3__alone.sql")
	require.Equal(t, "2", w.stored())
	w.add("V3__alone.sql", "INSERT INTO item (id, name) VALUES (3, 'x')")
	require.Equal(t, []string{"up 3 done"}, did(w.does(migration.Up, "")))
}

// undefined is the code of a statement about something that is not there.
func (w *migrationWorld) undefined() contract.Code {
	if w.h.Lacks[LacksNumbers] {
		return ""
	}
	return contract.CodeUndefined
}

func (w *migrationWorld) race() {
	t := w.t
	const runners, rounds = 4, 3
	for i := range 8 {
		w.add(fmt.Sprintf("V%d__more.sql", 3+i), fmt.Sprintf("INSERT INTO item (id, name) VALUES (%d, 'x')", 100+i))
	}
	migrators := make([]*migration.Migrator, runners)
	for i := range migrators {
		migrators[i] = w.migrator(fmt.Sprintf("runner-%d", i))
	}
	for range rounds {
		ended := make(chan error, runners)
		for _, m := range migrators {
			go func() {
				_, err := m.Run(t.Context(), migration.Request{Action: migration.Up, Timeout: time.Minute})
				ended <- err
			}()
		}
		for range runners {
			require.NoError(t, <-ended)
		}
	}
	status := w.does(migration.Status, "")
	require.Len(t, status.History, 10, "each file was applied once")
	require.Equal(t, "10", status.After.Label)
}

func (w *migrationWorld) lockHeld() {
	t := w.t
	sessions, err := w.engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	session, err := sessions.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = session.Close() }()
	ok, err := w.engine.TryLock(t.Context(), session)
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = w.engine.TryLock(t.Context(), session)
	require.NoError(t, err)
	require.True(t, ok, "a session may take its own lock again")

	limit := 3 * time.Second
	if len(w.h.Lacks) > 0 { // such a server is slow as well
		limit = 20 * time.Second
	}
	_, e := w.refusesAs(contract.CodeMigrationLocked, migration.Request{Action: migration.Up, Timeout: limit})
	require.Equal(t, db.ClassTimeout, e.Class)
	if w.h.Blames {
		require.Contains(t, e.Message, "session")
	}
	status := w.does(migration.Status, "")
	require.NotNil(t, status.Running, "the lock is seen without taking it")
}

func (w *migrationWorld) stopped() {
	w.h.needs(w.t, LacksCancel)
	t := w.t
	w.add("V3__slow.sql", "INSERT INTO item (id, name) VALUES (3, 'x');\n"+separator(w.engine)+w.h.Slow)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() {
		_, err := w.m.Run(ctx, migration.Request{Action: migration.Up, Progress: func(p migration.Progress) {
			if p.File == "V3__slow.sql" && p.Statement == 2 {
				started <- struct{}{}
			}
		}})
		ended <- err
	}()
	<-started
	w.awaitSlow(1)
	cancel()
	err := <-ended
	require.Equal(t, db.ClassCanceled, db.ClassOf(err), "%v", err)
	w.awaitSlow(0)
	w.nothingOfThree()
}

func (w *migrationWorld) timeLimit() {
	w.h.needs(w.t, LacksCancel)
	w.does(migration.Up, "")
	w.add("V3__slow.sql", "INSERT INTO item (id, name) VALUES (3, 'x');\n"+separator(w.engine)+w.h.Slow)
	_, e := w.refusesAs(contract.CodeTimeout, migration.Request{Action: migration.Up, Timeout: time.Second})
	require.Contains(w.t, e.Message, "V3__slow.sql, statement 2 of 2")
	w.awaitSlow(0)
	w.nothingOfThree()
}

// nothingOfThree holds that V3 left nothing, and that the next migration goes on from there.
func (w *migrationWorld) nothingOfThree() {
	t := w.t
	require.Zero(t, w.number("SELECT COUNT(*) FROM item WHERE id = 3"))
	w.add("V3__slow.sql", "INSERT INTO item (id, name) VALUES (3, 'y')")
	require.Eventually(t, func() bool { // the session that was stopped may need a moment to let the lock go
		_, err := w.run(migration.Request{Action: migration.Up, Timeout: 10 * time.Second})
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, "3", w.stored())
	require.Equal(t, 1, w.number("SELECT COUNT(*) FROM item WHERE id = 3"))
}

// awaitSlow waits until as many sessions run the slow statement, where the server reports them.
func (w *migrationWorld) awaitSlow(n int) {
	if w.h.RunsSlow == "" {
		return
	}
	require.Eventually(w.t, func() bool { return w.number(w.h.RunsSlow) == n }, time.Minute, 20*time.Millisecond)
}

func (h *MigrationHarness) needs(t *testing.T, what string) {
	t.Helper()
	if h.Lacks[what] {
		t.Skipf("SKIPPED, not tested: the server at hand lacks %q", what)
	}
}

func (w *migrationWorld) sessionState() {
	t := w.t
	w.does(migration.Up, "")
	if w.h.Locked == "" {
		return
	}
	// A table that another session has locked is waited for as long as the database's lock_timeout says, not longer.
	w.opts.Limits.LockTimeout = 300 * time.Millisecond
	w.m = w.migrator("runner-2")
	sessions, err := w.engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	session, err := sessions.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = session.Close() }()
	for _, text := range []string{w.engine.SQL().Begin, w.h.Locked} {
		_, err = session.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	w.add("V3__alter.sql", "ALTER TABLE item ADD more INTEGER")
	_, e := w.refuses(contract.CodeLockTimeout, migration.Up, "")
	require.Equal(t, db.ClassTransient, e.Class, "it may be tried again")
	_, err = session.ExecContext(t.Context(), w.engine.SQL().Rollback)
	require.NoError(t, err)
	w.does(migration.Up, "")
}

func (w *migrationWorld) targets() {
	t := w.t
	for _, action := range []migration.Action{migration.Down, migration.Goto, migration.Baseline, migration.Repair} {
		_, e := w.refuses(contract.CodeMigrationTarget, action, "")
		require.Contains(t, e.Message, "needs a target")
	}
	_, e := w.refuses(contract.CodeMigrationTarget, migration.Up, "3")
	require.Contains(t, e.Message, "the folder has 1 to 2 (2 files)")
	_, e = w.refuses(contract.CodeMigrationTarget, migration.Up, "latest; DROP")
	require.Contains(t, e.Message, "is not a version")
	require.Equal(t, "1", w.does(migration.Goto, "V1").After.Label)
	w.add("V9223372036854775808__large.sql", "SELECT 1")
	w.add("V4__latin.sql", "SELECT '\xe4'")
	w.add("V5__empty.sql", "\n")
	report, e := w.refuses(contract.CodeMigrationFolder, migration.Up, "")
	require.Contains(t, e.Message, "migrations/test_db")
	require.Len(t, report.Faults, 3)
	empty, err := migration.New(migration.Options{Engine: w.engine, Source: nowhere{}, Where: "migrations/gone", Runner: "r"})
	require.NoError(t, err)
	defer func() { require.NoError(t, empty.Close()) }()
	_, err = empty.Run(t.Context(), migration.Request{Action: migration.Up})
	require.ErrorContains(t, err, "migrations/gone")
}

// nowhere is a folder that is not there.
type nowhere struct{}

func (nowhere) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (w *migrationWorld) passed() {
	t := w.t
	w.does(migration.Up, "")
	down := migration.Request{Action: migration.Down, Target: "1", Job: "job-1", Message: "s1_1"}
	_, err := w.run(down)
	require.NoError(t, err)
	again, err := w.run(down)
	require.NoError(t, err, "a redelivery finds it done")
	require.Equal(t, []string{"down 2 done"}, did(again), "and reports what it did")
	require.Equal(t, "2", again.Before.Label)
	w.does(migration.Up, "")
	_, e := w.refusesAs(contract.CodeMigrationPassed, down)
	require.Contains(t, e.Message, "other jobs have migrated")
	require.Equal(t, "2", w.stored())
}
