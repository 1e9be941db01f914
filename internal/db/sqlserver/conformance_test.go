package sqlserver_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/sqlserver"
)

const secret = "s3cret-pa55word"

func options(t testing.TB) db.Options {
	t.Helper()
	return optionsFor(dbtest.SQLServer(t))
}

func optionsFor(connection string) db.Options {
	return db.Options{
		Name: "test_db", Namespace: "dbrunner", Runner: "runner-1",
		ConnectionString: connection,
		Ledger:           db.LedgerManage,
		Pool:             db.PoolOptions{Max: 5, ConnectTimeout: 10 * time.Second},
		Limits:           db.Limits{StatementTimeout: 60 * time.Second, LockTimeout: 10 * time.Second},
		// The server of a test need not show a certificate that anybody knows.
		Settings: map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, harness(t))
}

func harness(t *testing.T) dbtest.Harness {
	t.Helper()
	_ = dbtest.SQLServer(t) // skips all of it in one line where there is none
	return dbtest.Harness{
		Options: options,
		Open:    sqlserver.Open,
		Unreachable: func(t testing.TB, o db.Options) db.Options {
			u, err := url.Parse(o.ConnectionString)
			require.NoError(t, err)
			u.Host, u.User = "127.0.0.1:1", url.UserPassword("sa", secret)
			o.ConnectionString = u.String()
			return o
		},
		Cuttable: func(t testing.TB, o db.Options) (db.Options, func()) {
			u, err := url.Parse(o.ConnectionString)
			require.NoError(t, err)
			proxy := dbtest.NewTDSProxy(t, u.Host)
			o.ConnectionString = proxy.URL(t, o.ConnectionString)
			return o, proxy.CutAll
		},
		Secret:       secret,
		SmallestPool: 1,
		Has:          dbtest.Features{Snapshot: true, JobLocks: true, Lacks: dbtest.SQLServerLacks()},
		SQL: dbtest.SQL{
			Positional: func(n int) string { return fmt.Sprintf("$%d", n) },
			Numbers:    numbers,
			Slow:       slow,
			Running: "SELECT COUNT(*) AS n FROM sys.dm_exec_requests " +
				"WHERE database_id = DB_ID() AND session_id <> @@SPID",
			Ledger:    "dbrunner.ledger",
			DataError: "SELECT CAST(:value AS integer) AS n",
			Text:      "NVARCHAR(100)",
			Same:      sameValue,
		},
		Poisons:    dbtest.SQLServerPoisons(),
		Values:     values(),
		Params:     params(),
		RoundTrips: roundTrips(),
		Counted:    counted(), NotCountable: notCountable(),
		Leaks: leaks(),
		Writes: []string{
			"WITH x AS (SELECT 91 AS id) INSERT INTO item (id, name) SELECT id, 'x' FROM x",
			"INSERT INTO item (id, name) VALUES (92, 'x')",
			"SELECT 93 AS id, 'x' AS name INTO other",
			"SELECT 1 AS n INSERT INTO item (id, name) VALUES (94, 'x')",
			"SELECT 1 AS n EXEC ('INSERT INTO item (id, name) VALUES (95, ''x'')')",
			"CREATE TABLE other (id integer)",
			"EXEC sp_executesql N'INSERT INTO item (id, name) VALUES (96, ''x'')'",
		},
		Outside: []string{"ALTER DATABASE CURRENT SET AUTO_SHRINK OFF"},
		Refused: []string{
			"BEGIN TRAN", "BEGIN DISTRIBUTED TRANSACTION", "COMMIT TRAN", "SAVE TRAN a", "SELECT 1 COMMIT",
			"SET TRANSACTION ISOLATION LEVEL SNAPSHOT", "USE master", "EXECUTE AS USER = 'dbo'", "REVERT",
			"SELECT 1\nGO\nSELECT 2", "SHUTDOWN", "KILL 1",
		},
		Bypass: []string{
			"ROLLBACK", "COMMIT", "SELECT 1 AS n COMMIT", "SELECT 1 AS n\nGO", "EXEC ('COMMIT')", "EXEC ('ROLLBACK')",
			"EXEC ('ROLLBACK BEGIN TRAN')", "EXEC ('BEGIN TRAN')",
		},
	}
}

// ten is a table of ten rows.
const ten = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 " +
	"UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"

func numbers(n int) string {
	return fmt.Sprintf("SELECT TOP (%d) CAST(1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS int) AS n "+
		"FROM %s a CROSS JOIN %s b CROSS JOIN %s c CROSS JOIN %s d CROSS JOIN %s e CROSS JOIN %s f ORDER BY n", n, ten, ten, ten, ten, ten, ten)
}

// slow counts as many rows as no server counts within minutes.
const slow = "SELECT CAST(COUNT_BIG(*) AS nvarchar(40)) AS n FROM " + ten + " a CROSS JOIN " + ten + " b CROSS JOIN " + ten + " c CROSS JOIN " +
	ten + " d CROSS JOIN " + ten + " e CROSS JOIN " + ten + " f CROSS JOIN " + ten + " g CROSS JOIN " + ten + " h CROSS JOIN " +
	ten + " i CROSS JOIN " + ten + " j CROSS JOIN " + ten + " k CROSS JOIN " + ten + " l WHERE a.d + b.d + c.d + d.d + e.d + f.d + g.d + h.d <> l.d * 7"

func leaks() []dbtest.Leak {
	return []dbtest.Leak{
		{Name: "language", Set: []string{"SET LANGUAGE German"}, Look: "SELECT @@LANGUAGE AS v"},
		{Name: "lock timeout", Set: []string{"SET LOCK_TIMEOUT 77"}, Look: "SELECT @@LOCK_TIMEOUT AS v"},
		{Name: "first day", Set: []string{"SET DATEFIRST 3"}, Look: "SELECT @@DATEFIRST AS v"},
		{Name: "XACT_ABORT", Set: []string{"SET XACT_ABORT OFF"}, Look: "SELECT @@OPTIONS & 16384 AS v"},
		{Name: "NOCOUNT", Set: []string{"SET NOCOUNT ON"}, Look: "SELECT @@OPTIONS & 512 AS v"},
		{
			Name: "temporary table", Set: []string{"CREATE TABLE #leaked (v int)"},
			Look: "SELECT CASE WHEN OBJECT_ID('tempdb..#leaked') IS NULL THEN 'none' ELSE 'there' END AS v",
		},
		{
			Name: "session context", Needs: dbtest.LacksReset, Set: []string{"EXEC sp_set_session_context N'leaked', N'x'"},
			Look: "SELECT CAST(SESSION_CONTEXT(N'leaked') AS nvarchar(50)) AS v",
		},
		{Name: "context info", Set: []string{"SET CONTEXT_INFO 0x0102"}, Look: "SELECT CONTEXT_INFO() AS v"},
		{
			Name: "lock of an application", Set: []string{"EXEC sp_getapplock 'leaked', 'Exclusive', 'Session'"},
			Look: "SELECT APPLOCK_MODE('public', 'leaked', 'Session') AS v",
		},
		{Name: "database", Set: []string{"USE master"}, Look: "SELECT CASE WHEN DB_NAME() = 'master' THEN 'master' ELSE 'own' END AS v"},
		{
			Name: "cursor", Set: []string{"DECLARE leaked CURSOR GLOBAL FOR SELECT 1 AS a"},
			Look: "SELECT CURSOR_STATUS('global', 'leaked') AS v",
		},
	}
}
