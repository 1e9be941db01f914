package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/migration"
)

// migrateWorld is a configuration with the database shop, and a folder of migrations for it.
type migrateWorld struct {
	t      *testing.T
	config string
	folder string
}

func migrations(t *testing.T, engine, connection string, files ...string) *migrateWorld {
	t.Helper()
	dir := t.TempDir()
	w := &migrateWorld{t: t, config: filepath.Join(dir, "runner.yaml"), folder: filepath.Join(dir, "migrations", "shop")}
	text := fmt.Sprintf("instance: hand\ndatabases:\n  shop:\n    type: %s\n    connection_string: %s\n    migrations: {folder: %s}\n",
		engine, connection, w.folder)
	require.NoError(t, os.WriteFile(w.config, []byte(text), 0o600))
	for i := 0; i < len(files); i += 2 {
		w.write(files[i], files[i+1])
	}
	return w
}

// onSQLite has three files, of which two can be reverted.
func onSQLite(t *testing.T) *migrateWorld {
	t.Helper()
	return migrations(t, "sqlite", filepath.Join(t.TempDir(), "shop.db"),
		"V1__item.sql", "CREATE TABLE item (id INTEGER PRIMARY KEY);",
		"V2__name.sql", "ALTER TABLE item ADD name TEXT;\nINSERT INTO item VALUES (1, 'a; b');", "U2__name.sql", "DELETE FROM item;\nALTER TABLE item DROP name;",
		"V3__pack.sql", "VACUUM;", "U3__pack.sql", "SELECT 1;")
}

func (w *migrateWorld) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.MkdirAll(w.folder, 0o700))
	require.NoError(w.t, os.WriteFile(filepath.Join(w.folder, name), []byte(text), 0o600))
}

// migrateLine is a line behind "runner migrate", without an audit entry: these tests have no NATS.
func migrateLine(config, line string) []string {
	args := append(append([]string{"migrate"}, strings.Fields(line)...), "--config", config)
	if action, _, _ := strings.Cut(line, " "); slices.Contains([]string{"up", "down", "goto", "repair", "baseline"}, action) {
		args = append(args, "--no-audit")
	}
	return args
}

// run runs a line behind "runner migrate" and wants an exit code.
func (w *migrateWorld) run(code int, line string) outcome {
	w.t.Helper()
	got := runCommand(w.t, "", migrateLine(w.config, line)...)
	require.Equal(w.t, code, got.code, "%s: %s%s", line, got.out, got.err)
	return got
}

func TestMigrateUpAndDown(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	up := w.run(exitOK, "up shop 2")
	require.Contains(t, up.out, "shop is at version 2, from none; the latest is 3, 1 file pending\n")
	require.Contains(t, up.err, "V2__name.sql, file 2 of 2, 2 statements\n")
	require.NotContains(t, up.err, "\r", "a line is rewritten only on a terminal")

	status := w.run(exitOK, "status shop")
	require.Regexp(t, `(?m)^2 +V2__name.sql +applied +20\S+ \S+Z +hand +\d+m?s *$`, status.out)
	require.Regexp(t, `(?m)^3 +V3__pack.sql +pending`, status.out)
	require.Contains(t, w.run(exitFailure, "status shop --check").out, "1 file pending")

	plan := w.run(exitOK, "plan shop")
	require.Equal(t, "-- V3__pack.sql, version 3, 1 statement, statement by statement, because VACUUM (line 1) cannot run in a transaction\n"+
		"\n-- line 1\nVACUUM;\n\n", plan.out)
	require.Contains(t, w.run(exitOK, "plan shop 1").out, "-- U2__name.sql, reverts version 2, 2 statements, in one transaction\n")

	require.Contains(t, w.run(exitOK, "up shop").out, "shop is at version 3, from 2, nothing is pending\n")
	require.Equal(t, "shop is at version 3, nothing is pending\n", w.run(exitOK, "up shop").out)
	require.Contains(t, w.run(exitOK, "plan shop").out, "nothing to do")
	w.run(exitOK, "status shop --check")
	down := w.run(exitOK, "down shop 2")
	require.Regexp(t, `(?m)^3 +U3__pack.sql +reverted`, down.out)
	require.Regexp(t, `(?m)^2 +U2__name.sql +reverted`, w.run(exitOK, "goto shop 1").out)
	refused := w.run(exitFailure, "down shop none --yes")
	require.Contains(t, refused.err, "migration_refused: nothing was run: V1__item.sql: no file reverts version 1 (U1__item.sql)")
	require.Contains(t, w.run(exitOK, "plan shop none").out, "wrong: V1__item.sql")
}

func TestMigrateAnswersAsJSON(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	var doc struct {
		Database string                      `json:"database"`
		Before   string                      `json:"version_before"`
		After    string                      `json:"version_after"`
		Files    []contract.MigrationFile    `json:"files"`
		Pending  []contract.PendingMigration `json:"pending"`
		Problems []contract.MigrationProblem `json:"problems"`
		Error    *migration.ErrorAnswer      `json:"error"`
	}
	w.run(exitOK, "up shop 2 --json").json(t, &doc)
	require.Equal(t, [3]string{"shop", "none", "2"}, [3]string{doc.Database, doc.Before, doc.After})
	require.Len(t, doc.Files, 2)
	require.Equal(t, "hand", doc.Files[0].Runner)
	require.Equal(t, []contract.PendingMigration{{Version: "3", File: "V3__pack.sql"}}, doc.Pending)
	require.Nil(t, doc.Error)

	w.write("V3__pack.sql", "INSERT INTO nowhere VALUES (1)")
	w.run(exitFailure, "up shop --json").json(t, &doc)
	require.Equal(t, "undefined_object", doc.Error.Code)
	require.Contains(t, doc.Error.Message, "nothing of this file is applied")
	w.write("V1__item.sql", "CREATE TABLE other (id INTEGER);")
	w.run(exitFailure, "validate shop --json").json(t, &doc)
	require.Equal(t, "edited_file", doc.Problems[0].Code)
	w.write("first.sql", "SELECT 1")
	w.run(exitFailure, "up shop --json").json(t, &doc)
	require.Equal(t, "migration_folder", doc.Error.Code)
}

func TestMigrateReportsProblemsAndRepairs(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	w.run(exitOK, "up shop 2")
	w.write("V1__item.sql", "CREATE TABLE item (id INTEGER PRIMARY KEY); -- edited")
	require.NoError(t, os.Remove(filepath.Join(w.folder, "V2__name.sql")))
	require.NoError(t, os.Remove(filepath.Join(w.folder, "U2__name.sql")))
	got := w.run(exitFailure, "validate shop")
	require.Contains(t, got.out, "wrong: V1__item.sql: was applied with a different text")
	require.Contains(t, got.out, "wrong: V2__name.sql: was applied as version 2 and no longer exists")
	require.Empty(t, got.err, "it did what it was asked for")
	status := w.run(exitOK, "status shop")
	require.Regexp(t, `(?m)^1 +V1__item.sql +edited`, status.out)
	require.Regexp(t, `(?m)^2 +V2__name.sql +missing`, status.out)
	refused := w.run(exitFailure, "up shop")
	require.Contains(t, refused.err, "migration_refused")
	require.Equal(t, 1, strings.Count(refused.out+refused.err, "was applied with a different text"), "each fault is reported once")

	repaired := w.run(exitOK, "repair shop 1")
	require.Contains(t, repaired.err, "wrong: V1__item.sql")
	require.NotContains(t, repaired.out, "wrong: ", "it is reported once")
	require.Contains(t, repaired.out, "note: the version is 1 now\n")
	require.Regexp(t, `(?m)^1 +V1__item.sql +adopted`, w.run(exitOK, "status shop").out)
	require.Contains(t, w.run(exitOK, "repair shop 1").err, "no problems found\n")
	require.Contains(t, w.run(exitOK, "validate shop").out, "nothing is wrong\n")
}

func TestMigrateAdopts(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	require.Contains(t, w.run(exitOK, "baseline shop 2").out, "note: adopted at version 2\n")
	require.Regexp(t, `(?m)^2 +V2__name.sql +adopted`, w.run(exitOK, "status shop").out)
}

func TestMigrateOutOfOrder(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	w.run(exitOK, "up shop")
	w.write("V2.5__late.sql", "DELETE FROM item")
	require.Contains(t, w.run(exitFailure, "up shop").err, "allow out_of_order")
	w.run(exitOK, "validate shop --out-of-order")
	require.Regexp(t, `2.5 +V2.5__late.sql +applied`, w.run(exitOK, "up shop --out-of-order").out)
}

func TestMigrateNew(t *testing.T) {
	t.Parallel()
	w := migrations(t, "postgres", "postgres://stranger@127.0.0.1:1/shop?sslmode=disable")
	first := runCommand(t, "", "migrate", "new", "shop", "Add a queue!", "--down", "--config", w.config)
	require.Equal(t, exitOK, first.code, first.err)
	paths := strings.Fields(first.out)
	require.Equal(t, []string{filepath.Join(w.folder, "V1__add_a_queue.sql"), filepath.Join(w.folder, "U1__add_a_queue.sql")}, paths)
	for _, path := range paths {
		require.FileExists(t, path)
	}
	empty := w.run(exitFailure, "plan shop")
	require.Equal(t, 1, strings.Count(empty.out+empty.err, "V1__add_a_queue.sql: no statement; a file"), "%s%s", empty.out, empty.err)
	var made struct {
		Files []string `json:"files"`
	}
	w.run(exitOK, "new shop more --json").json(t, &made)
	require.Equal(t, []string{filepath.Join(w.folder, "V2__more.sql")}, made.Files)

	w.write("000003_other.up.sql", "SELECT 1")
	require.Contains(t, w.run(exitFailure, "new shop third").err, "mixes two styles")
	require.Contains(t, w.run(exitUsage, "new shop ä").err, "needs a letter")
	require.Error(t, makeFile(paths[0]), "what is there stays")
}

// An error of the caller has its own exit code and an answer with the fix.
func TestMigrateUsage(t *testing.T) {
	t.Parallel()
	w := onSQLite(t)
	w.run(exitOK, "up shop 1")
	for line, words := range map[string]string{
		"up":                    "runner migrate up DATABASE [TARGET]",
		"down shop":             "too few arguments; write runner migrate down DATABASE TARGET",
		"status shop 2":         "too many arguments; write runner migrate status DATABASE",
		"up shop 2 3":           "too many arguments",
		"goto shop 9":           "the folder has 1 to 3 (3 files)",
		"goto shop banana":      `"banana" is not a version`,
		"baseline shop none":    "baseline needs the database's current version",
		"status nosuch":         `no database "nosuch"; it has shop`,
		"up shop --timeout -1s": "--timeout",
		"status shop --nosuch":  "unknown flag",
		"new shop":              `write runner migrate new DATABASE "DESCRIPTION"`,
		"new nosuch a":          "it has shop",
	} {
		require.Contains(t, w.run(exitUsage, line).err, words, line)
	}
	none := runCommand(t, "", "migrate", "status", "shop")
	require.Equal(t, exitUsage, none.code)
	require.Contains(t, none.err, "no database is configured")
	require.NoError(t, os.RemoveAll(w.folder))
	require.Contains(t, w.run(exitUsage, "up shop").err, w.folder+", cannot be read: no such file or directory; create it (runner migrate new DATABASE DESCRIPTION)")
}

func TestMigrateUnreachable(t *testing.T) {
	t.Parallel()
	w := migrations(t, "postgres", "postgres://stranger:geheim@127.0.0.1:1/shop?sslmode=disable", "V1__a.sql", "SELECT 1")
	for _, action := range []string{"status shop", "up shop", "repair shop 1"} {
		got := w.run(exitFailure, action)
		require.Contains(t, got.err, "database shop cannot be reached")
		require.NotContains(t, got.err, "geheim")
	}
	pooled, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, append(pooled, "    pooler: transaction\n"...), 0o600))
	require.Contains(t, w.run(exitUsage, "status shop").err, "direct_connection_string")
}

// Ctrl-C stops the statement, and the report of what is left is true.
func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	const slow = "CREATE TABLE one (n integer); SELECT pg_sleep(300);"
	for _, c := range []struct{ name, text, words, left string }{
		{"whole", slow, "nothing of this file is applied", "shop is at version none; the latest is 1, 1 file pending"},
		{
			"stepwise", "-- dbrunner: no-transaction\n" + slow, "its statement 1 is applied",
			"interrupted: V1__slow.sql was interrupted.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			shop := dbtest.Postgres(t)
			w := migrations(t, "postgres", shop, "V1__slow.sql", c.text)
			p := startProcess(t, migrateLine(w.config, "up shop")...)
			awaitSleep(t, shop)
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			<-p.done
			require.Equal(t, exitFailure, p.cmd.ProcessState.ExitCode(), p.output())
			require.Contains(t, p.output(), c.words)
			require.Contains(t, p.output(), c.left)
		})
	}
}

// awaitSleep returns when a session of a database is in pg_sleep.
func awaitSleep(t *testing.T, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	require.Eventually(t, func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").Scan(&n)
		return err == nil && n == 1
	}, testTimeout, pollEvery, "no session sleeps")
}

// runs reports whether a migration is under way whose status says a text.
func (w *migrateWorld) runs(text string) bool {
	got := runCommand(w.t, "", "migrate", "status", "shop", "--json", "--config", w.config)
	_, running, ok := strings.Cut(got.out, `"running": {`)
	return ok && strings.Contains(running, text)
}

// Another session that migrates is waited for, and named when the time is over.
func TestMigrateLocked(t *testing.T) {
	t.Parallel()
	w := migrations(t, "postgres", dbtest.Postgres(t), "V1__slow.sql", "SELECT pg_sleep(300);")
	p := startProcess(t, migrateLine(w.config, "up shop")...)
	require.Eventually(t, func() bool { return w.runs("V1__slow.sql") }, testTimeout, pollEvery)
	require.Contains(t, w.run(exitOK, "status shop").out, "another session is migrating it: session ")
	got := w.run(exitFailure, "up shop --timeout 1s")
	require.Contains(t, got.err, "migration_locked: the time limit was reached while another session was migrating this database: session ")
	require.Equal(t, exitFailure, p.terminate(), p.output())
}

func TestMeter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := newMeter(&out)
	require.False(t, m.fileStarted())
	for i := range 3 {
		m.note(migration.Progress{File: "V1__a.sql", Index: 1, Of: 2, Statement: i + 1, Statements: 3})
	}
	m.note(migration.Progress{File: "V2__b.sql", Index: 2, Of: 2, Statement: 1, Statements: 1})
	require.True(t, m.fileStarted())
	m.stop()
	require.Equal(t, "V1__a.sql, file 1 of 2, 3 statements\nV2__b.sql, file 2 of 2, 1 statement\n", out.String())

	out.Reset()
	line := statusLine{out: &out, on: true}
	line.draw("a long line")
	line.draw("short")
	line.clear()
	require.Equal(t, "\ra long line\ra long line"+"\rshort      \rshort"+"\r     \r", out.String())
	m.repeat()
	require.Contains(t, out.String(), "file 2 of 2, statement 1 of 1  V2__b.sql")
	require.Equal(t, "ab…", clip("abcd", 3))
}

func TestQuestionNeedsAYes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{"y\n": true, " YES\n": true, "yes": true, "n\n": false, "\n": false, "": false, "yep\n": false} {
		got, err := readLine(t.Context(), strings.NewReader(line))
		require.NoError(t, err)
		require.Equal(t, want, isYes(got), line)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = readLine(ctx, r)
	require.ErrorContains(t, err, "nothing was changed")
	require.NoError(t, w.Close()) // the read ends, and its goroutine
	require.NoError(t, r.Close())
}
