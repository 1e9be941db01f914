package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/postgres"
)

// TestFilesForPsql: what psql does itself, and COPY from its input, is refused when the folder is read, with its line and a
// hint; what only looks like it is not.
func TestFilesForPsql(t *testing.T) {
	t.Parallel()
	opts := options(t)
	for text, want := range map[string]string{
		"COPY t FROM STDIN;": "line 1: COPY … FROM STDIN",
		"copy public.t (a, b) from stdin;\n1\ta\n2\tit's\n\\.\n":                "line 1: COPY … FROM STDIN",
		"SELECT 1;\n\nCOPY \"t\" (\n  a,\n  b\n) FROM stdin WITH (FORMAT csv);": "line 3: COPY … FROM STDIN: no client sends its rows; write the rows as INSERT",
		"COPY/**/t/* ; */FROM -- x\nStdin":                                      "COPY … FROM STDIN",
		"COPY t FROM STDIN DELIMITER ',' CSV HEADER;":                           "COPY … FROM STDIN",
		"COPY BINARY s.t FROM STDIN;":                                           "COPY … FROM STDIN",
		"COPY t (a) FROM STDIN WHERE a > 1;":                                    "COPY … FROM STDIN",
		"-- a\rCOPY t FROM STDIN;":                                              "COPY … FROM STDIN",
		"BEGIN;\nCOPY t FROM STDIN;\nCOMMIT;":                                   "line 2: COPY … FROM STDIN",
		"COPY (SELECT 1) TO STDOUT;":                                            "COPY … TO STDOUT",
		"COPY t TO stdout (FORMAT binary)":                                      "COPY … TO STDOUT",
		"\\restrict AbC123\n\nSELECT 1;\n\\unrestrict AbC123\n":                 `line 1: \restrict is a command of psql: pg_dump has written it`,
		"SELECT 1;\n\\unrestrict AbC123":                                        `line 2: \unrestrict is a command of psql`,
		"\\connect other\nSELECT 1;":                                            `\connect is a command of psql: migrations run in the database of the configuration`,
		"\\c other":                                                             `\c is a command of psql`,
		"\\i other.sql":                                                         `\i is a command of psql: make the other file a migration of its own`,
		"SELECT 1;\n  \\ir 'it''s.sql'":                                         `line 2: \ir is`,
		"\\set v 1\nSELECT :v;":                                                 `\set is a command of psql: write the value`,
		"\\copy t FROM 'x.csv'":                                                 `\copy is a command of psql: write the rows as INSERT`,
		"\\.\n":                                                                 `\. is a command of psql`,
		"SELECT 'SELECT 1' \\gexec":                                             `\gexec is a command of psql: write a DO block`,
		"\\if true\nSELECT 1;\n\\endif":                                         `\if is a command of psql`,
		"SELECT 1 \\; SELECT 2;":                                                `\; is a command of psql: end the statement with a semicolon`,
		"/* a */ \\echo hi":                                                     `\echo is a command of psql: remove it`,
		"\\! rm":                                                                `\! is a command of psql`,
	} {
		report, err := migrator(t, opts, map[string]string{"V1__a.sql": text}).Run(t.Context(), migration.Request{Action: migration.Validate})
		require.ErrorContains(t, err, want, text)
		require.Len(t, report.Faults, 1)
	}
	for _, text := range []string{
		"COPY t FROM '/tmp/stdin';", "COPY t FROM PROGRAM 'cat STDIN';", "COPY stdin FROM '/tmp/x';", "COPY (SELECT a FROM stdin) TO '/tmp/x';",
		"COPY \"FROM STDIN\" TO '/tmp/x'", "-- COPY t FROM STDIN;\nSELECT 1;", "/* \n\\restrict x\n*/ SELECT 1", "SELECT '\n\\connect x\n'",
		"SELECT $$\n\\i x\nCOPY t FROM STDIN;\n$$", "SELECT E'a\\\n\\'\\set'", "SELECT \"\\c\"", "CREATE TABLE copy (stdin int)", "-- \\restrict\nSELECT 1",
	} {
		_, faults, err := migrator(t, opts, map[string]string{"V1__a.sql": text}).Folder()
		require.NoError(t, err, text)
		require.Empty(t, faults)
	}
}

// TestCopyThatArrives: a COPY that waits for rows is refused immediately wherever it comes from, and keeps no lock.
func TestCopyThatArrives(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts := options(t)
	conn := connect(t, opts.ConnectionString)
	exec(t, conn, "CREATE TABLE one (id integer); CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'COPY one FROM STDIN'; END $$")
	free := func() {
		t.Helper()
		exec(t, conn, "SET lock_timeout = '10s'; BEGIN; LOCK TABLE one IN ACCESS EXCLUSIVE MODE; ROLLBACK")
	}
	engine, err := postgres.Migrations(opts)
	require.NoError(t, err)
	sessions, err := engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	for _, text := range []string{"COPY one FROM STDIN", "copy one (id) from stdin (format csv)", "LOCK TABLE one; COPY one FROM STDIN; SELECT 1"} {
		session, err := sessions.Conn(ctx)
		require.NoError(t, err)
		_, err = session.ExecContext(ctx, "BEGIN")
		require.NoError(t, err)
		_, err = session.ExecContext(ctx, text)
		e := engine.Explain(err, &dialect.Part{SQL: text})
		require.Equal(t, contract.CodeNotSupported, e.Code, "%s: %v", text, err)
		require.Equal(t, db.ClassPermanent, e.Class)
		_, err = session.ExecContext(ctx, "ROLLBACK")
		require.NoError(t, err, "the session lives")
		free()
		require.NoError(t, session.Close())
	}
	for _, text := range []string{"SELECT f();", "DO $$ BEGIN EXECUTE 'COPY one FROM STDIN'; END $$;", "DO $$ BEGIN EXECUTE 'co' || 'py one to stdout'; END $$;"} {
		_, err := migrator(t, opts, map[string]string{"V1__a.sql": text}).Run(ctx, migration.Request{Action: migration.Up})
		require.ErrorContains(t, err, "nothing of this file is applied", text)
		free()
	}
}

// TestCopyInJobs is the same for jobs whose text was not read by the compiler.
func TestCopyInJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, text := range []string{"COPY effect FROM STDIN", "COPY effect TO STDOUT", "DO $$ BEGIN EXECUTE 'COPY effect FROM STDIN'; END $$"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for name, run := range map[string]func() error{
			"transaction": func() error { _, err := b.transact(sealed("job"), "SELECT 1", text, "SELECT 2"); return err },
			"last":        func() error { _, err := b.transact(nil, text); return err },
			"query":       func() error { _, err := b.read(text); return err },
			"statement": func() error {
				_, err := b.db.Execute(ctx, db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: text}, db.RowOptions{Format: db.Arrays}, nil)
				return err
			},
		} {
			started := time.Now()
			err := run()
			require.Error(t, err, name)
			require.Less(t, time.Since(started), 20*time.Second, name)
			if strings.HasPrefix(text, "COPY") {
				require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%s: %v", name, err)
			}
			_, err = b.transact(nil, "LOCK TABLE effect IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err, name)
		}
		cancel()
	}
}
