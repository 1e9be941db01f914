package postgres_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/postgres"
)

func TestMigrations(t *testing.T) {
	t.Parallel()
	dbtest.RunMigrations(t, dbtest.MigrationHarness{
		Options: options,
		Engine:  postgres.Migrations,
		Slow:    "SELECT pg_sleep(120);",
		RunsSlow: "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() " +
			"AND query LIKE '%pg_sleep(120)%' AND state = 'active' AND pid <> pg_backend_pid()",
		Function: "CREATE FUNCTION answer() RETURNS integer LANGUAGE plpgsql AS $$\nDECLARE n integer;\nBEGIN\n" +
			"  n := 41; -- a comment; with one\n  RETURN n + 1;\nEND;\n$$;\nCREATE FUNCTION same() RETURNS integer BEGIN ATOMIC; SELECT 1; SELECT answer(); END;",
		Called:     "SELECT same()",
		Alone:      "CREATE INDEX CONCURRENTLY item_name ON item (name)",
		AloneFails: "CREATE INDEX CONCURRENTLY item_gone ON item (gone)",
		Locked:     "LOCK TABLE item IN ACCESS SHARE MODE",
		Blames:     true,
	})
}

func engineOf(t *testing.T, opts db.Options) migration.Engine {
	t.Helper()
	engine, err := postgres.Migrations(opts)
	require.NoError(t, err)
	return engine
}

// migrator looks after the migrations of a database of this test's own.
func migrator(t *testing.T, opts db.Options, files map[string]string) *migration.Migrator {
	t.Helper()
	engine := engineOf(t, opts)
	folder := fstest.MapFS{}
	for name, text := range files {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	m, err := migration.New(migration.Options{Engine: engine, Source: folder, Where: "here", Runner: "runner-1"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func exec(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	_, err := conn.Exec(context.WithoutCancel(t.Context()), text)
	require.NoError(t, err)
}

// TestMigrationSessionState: what a file sets in its session reaches neither the next file nor the history.
func TestMigrationSessionState(t *testing.T) {
	t.Parallel()
	opts := options(t)
	role := "limited_" + strings.ToLower(rand.Text())
	conn := connect(t, opts.ConnectionString)
	exec(t, conn, `CREATE ROLE `+role)
	t.Cleanup(func() { exec(t, conn, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	m := migrator(t, opts, map[string]string{
		"V1__path.sql": "SELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE public.one (id integer);",
		"V2__role.sql": "GRANT CREATE ON SCHEMA public TO " + role + ";\nSET ROLE " + role + ";\nCREATE TABLE public.two (id integer);",
		"V3__temp.sql": "CREATE TEMP TABLE one (other integer);\nSET synchronous_commit = off;\nSET lock_timeout = 1;",
		"V4__step.sql": "-- dbrunner: no-transaction\nSET ROLE " + role + ";\nSET statement_timeout = 1;",
		"V5__last.sql": "INSERT INTO one (id) VALUES (1);\nSELECT pg_sleep(0.05);\nSELECT 1 / (current_setting('lock_timeout') <> '1ms')::int;",
	})
	report, err := m.Run(t.Context(), migration.Request{Action: migration.Up})
	require.NoError(t, err)
	require.Equal(t, "5", report.After.Label)
	require.Len(t, report.Changes, 5)
}

// TestMigrationRights: a login that may not change the schema gets an error that names the missing privilege, and nothing is created.
func TestMigrationRights(t *testing.T) {
	t.Parallel()
	opts := options(t)
	conn := connect(t, opts.ConnectionString)
	login := "reader_" + strings.ToLower(rand.Text())
	exec(t, conn, `CREATE ROLE `+login+` LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA public TO `+login)
	t.Cleanup(func() { exec(t, conn, `DROP OWNED BY `+login+`; DROP ROLE `+login) })
	u, err := url.Parse(opts.ConnectionString)
	require.NoError(t, err)
	u.User = url.UserPassword(login, "x")
	opts.ConnectionString = u.String()
	m := migrator(t, opts, map[string]string{"V1__one.sql": "CREATE TABLE one (id integer)"})
	_, err = m.Run(t.Context(), migration.Request{Action: migration.Up})
	var e *db.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, contract.CodePermission, e.Code)
	require.Contains(t, e.Message, "migrations need a login that may create")
	status, err := m.Run(t.Context(), migration.Request{Action: migration.Status})
	require.NoError(t, err)
	require.True(t, status.After.IsNone())
}

// TestMigrationOfRoutinesThatCommit: the error for a file whose routine ends transactions has the fix, and the file runs with it.
func TestMigrationOfRoutinesThatCommit(t *testing.T) {
	t.Parallel()
	const procedure = "CREATE TABLE one (id integer);\nCREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO one VALUES (1); COMMIT; " +
		"INSERT INTO one VALUES (2); ROLLBACK; INSERT INTO one VALUES (3); END $$;"
	for _, text := range []string{"CALL p();", "SELECT 1;\ncall public.p() ;", "DO $$ BEGIN COMMIT; END $$;", "DO $$ BEGIN CALL p(); END $$;"} {
		opts := options(t)
		_, err := migrator(t, opts, map[string]string{"V1__p.sql": procedure, "V2__call.sql": text}).
			Run(t.Context(), migration.Request{Action: migration.Up})
		require.ErrorContains(t, err, `"-- dbrunner: no-transaction" at the head`, text)
		var e *db.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "2D000", e.EngineCode)
		_, err = migrator(t, opts, map[string]string{"V1__p.sql": procedure, "V2__call.sql": "-- dbrunner: no-transaction\n" + text}).
			Run(t.Context(), migration.Request{Action: migration.Up})
		require.NoError(t, err, text)
	}
}
