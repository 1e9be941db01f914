package postgres_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// alterDatabase changes a setting of the connection's own database for sessions to come.
func alterDatabase(t *testing.T, conn *pgx.Conn, setting string) {
	t.Helper()
	exec(t, conn, "DO $do$ BEGIN EXECUTE format($s$ALTER DATABASE %I SET "+setting+"$s$, current_database()); END $do$")
}

// TestMigrationReadingSettings: what a file sets of how the server reads texts, or what its database has set, keeps
// neither the file nor the history from being written, and a file's text is UTF-8 whatever it sets.
func TestMigrationReadingSettings(t *testing.T) {
	t.Parallel()
	for _, own := range []string{"", "client_encoding = 'LATIN1'", "standard_conforming_strings = off", "client_encoding = 'SQL_ASCII'"} {
		t.Run(own, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			conn := connect(t, opts.ConnectionString)
			if own != "" {
				alterDatabase(t, conn, own)
			}
			m := migrator(t, opts, map[string]string{
				"V1__dump.sql": "SET client_encoding = 'LATIN1';\nSET standard_conforming_strings = off;\nSET escape_string_warning = off;\n" +
					"SELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE public.word (id int, w text);\n" +
					"INSERT INTO public.word VALUES (1, 'größe');",
				"V2__local.sql": "SET LOCAL client_encoding = 'WIN1252';\nSET LOCAL standard_conforming_strings TO off;\nINSERT INTO word VALUES (2, 'größe');",
				"V3__step.sql": "-- dbrunner: no-transaction\nSET client_encoding TO latin1;\nINSERT INTO word VALUES (3, 'größe');\n" +
					"SET standard_conforming_strings = off;\nCREATE INDEX CONCURRENTLY word_w ON word (w);",
				"V4__set.sql":  "SELECT set_config('client_encoding', 'LATIN1', false), set_config('standard_conforming_strings', 'off', false);",
				"V5__last.sql": "INSERT INTO word VALUES (5, 'größe');",
			})
			report, err := m.Run(t.Context(), migration.Request{Action: migration.Up})
			require.NoError(t, err)
			require.Equal(t, "5", report.After.Label)
			var n int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM word WHERE w = U&'gr\\00f6\\00dfe'").Scan(&n))
			require.Equal(t, 4, n)
			status, err := m.Run(t.Context(), migration.Request{Action: migration.Status})
			require.NoError(t, err)
			require.False(t, status.Dirty)
		})
	}
}

// TestMigrationMakesOwnSchema: a file may make another schema the login's own, so that golang-migrate's table is not where it was. The
// history is still right, and goes on.
func TestMigrationMakesOwnSchema(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"schema of the login":     `DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$;`,
		"search path of sessions": `CREATE SCHEMA own; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = own', current_database()); END $$;`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			files := map[string]string{"V1__own.sql": file, "V2__two.sql": "CREATE TABLE two (id int);"}
			for last := 2; last <= 4; last++ {
				m := migrator(t, opts, files)
				for range 2 {
					status, err := m.Run(t.Context(), migration.Request{Action: migration.Status})
					require.NoError(t, err)
					require.Empty(t, status.Faults)
					report, err := m.Run(t.Context(), migration.Request{Action: migration.Up})
					require.NoError(t, err)
					require.Empty(t, report.Faults)
					require.Equal(t, strconv.Itoa(last), report.After.Label)
				}
				var version int
				var dirty bool
				conn := connect(t, opts.ConnectionString)
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty))
				require.Equal(t, last, version)
				require.False(t, dirty)
				files[fmt.Sprintf("V%d__more.sql", last+1)] = "SELECT 1;"
			}
		})
	}
}

// TestMigrationDriverRefusal: what the driver refuses for reasons of its own is no lost connection.
func TestMigrationDriverRefusal(t *testing.T) {
	t.Parallel()
	opts := options(t)
	engine := engineOf(t, opts)
	sessions, err := engine.Open(false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sessions.Close()) })
	_, err = sessions.ExecContext(t.Context(), "SELECT $1::int", struct{ X chan int }{})
	require.Error(t, err)
	e := engine.Explain(err, nil)
	require.Equal(t, db.ClassPermanent, e.Class)
	require.Equal(t, contract.CodeDatabase, e.Code)
	require.False(t, e.Answered())
}
