package postgres_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/postgres"
)

const secret = "s3cret-pa55word"

func options(t testing.TB) db.Options {
	t.Helper()
	return db.Options{
		Name: "test_db", Namespace: "dbrunner", Runner: "runner-1",
		ConnectionString: dbtest.Postgres(t),
		Ledger:           db.LedgerManage,
		Pool:             db.PoolOptions{Max: 5, ConnectTimeout: time.Minute},
		Limits: db.Limits{
			StatementTimeout: 60 * time.Second, LockTimeout: 10 * time.Second, IdleInTransaction: 60 * time.Second,
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, roundTripHarness())
}

func harness() dbtest.Harness {
	return dbtest.Harness{
		Options: options,
		Open:    postgres.Open,
		Unreachable: func(t testing.TB, o db.Options) db.Options {
			u, err := url.Parse(o.ConnectionString)
			require.NoError(t, err)
			u.Host, u.User = "127.0.0.1:1", url.UserPassword("postgres", secret)
			o.ConnectionString = u.String()
			return o
		},
		Cuttable: func(t testing.TB, o db.Options) (db.Options, func()) {
			u, err := url.Parse(o.ConnectionString)
			require.NoError(t, err)
			proxy := cutproxy.New(t, u.Host)
			o.ConnectionString = proxy.URL(o.ConnectionString)
			return o, proxy.CutAll
		},
		Secret:       secret,
		SmallestPool: 1,
		Has:          dbtest.Features{DeferredConstraints: true, Returning: true, JobLocks: true, SharedCommits: true},
		SQL: dbtest.SQL{
			Positional: func(n int) string { return fmt.Sprintf("$%d", n) },
			Numbers:    func(n int) string { return fmt.Sprintf("SELECT n FROM generate_series(1, %d) AS n", n) },
			Ledger:     "dbrunner.ledger",
			Slow:       "SELECT pg_sleep(120)::text AS n",
			Running: "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() " +
				"AND query ~ 'pg_sleep\\(120\\)|generate_series\\(1, 5000000\\)' AND state = 'active' AND pid <> pg_backend_pid()",
			DataError: "SELECT CAST(:value AS integer) AS n",
			Same:      sameValue,
		},
		Values:     values(),
		Params:     params(),
		RoundTrips: roundTrips(),
		Counted:    counted(), NotCountable: notCountable(),
		Leaks:   leaks(),
		Poisons: dbtest.PostgresPoisons(),
		Writes: []string{
			"WITH x AS (INSERT INTO item (id, name) VALUES (91, 'x') RETURNING 1) SELECT * FROM x",
			"INSERT INTO item (id, name) VALUES (92, 'x')",
			"EXPLAIN ANALYZE INSERT INTO item (id, name) VALUES (93, 'x')",
			"CREATE TABLE other (id integer)",
		},
		Outside: []string{
			"VACUUM item", "VACUUM (FULL, ANALYZE) item", "REINDEX INDEX CONCURRENTLY item_name", "ALTER SYSTEM RESET work_mem",
			"CREATE INDEX CONCURRENTLY IF NOT EXISTS item_amount ON item (amount)", "DROP INDEX CONCURRENTLY IF EXISTS item_amount",
		},
		Refused: []string{
			"PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE ALL", "DISCARD ALL", "LISTEN c", "LOAD 'x'",
			"SET TRANSACTION READ WRITE", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
			"PREPARE TRANSACTION 'x'", "ABORT", "END", "VACUUM", "COPY item FROM STDIN", "COPY item TO STDOUT",
		},
	}
}

func leaks() []dbtest.Leak {
	return []dbtest.Leak{
		{Name: "SET", Set: []string{"SET work_mem = '77MB'"}, Look: "SELECT current_setting('work_mem') AS v"},
		{
			Name: "set_config", Set: []string{"SELECT set_config('my.value', 'x', false)"},
			Look: "SELECT coalesce(nullif(current_setting('my.value', true), ''), 'unset') AS v",
		},
		{
			Name: "statement_timeout", Set: []string{"SET statement_timeout = 0"},
			Look: "SELECT current_setting('statement_timeout') AS v",
		},
		{Name: "search_path", Set: []string{"SET search_path = pg_catalog"}, Look: "SELECT current_setting('search_path') AS v"},
		{Name: "TimeZone", Set: []string{"SET TimeZone = 'Asia/Tokyo'"}, Look: "SELECT '2024-01-01T00:00:00Z'::timestamptz AS v"},
		{Name: "SET ROLE", Set: []string{"SET ROLE pg_monitor"}, Look: "SELECT current_user AS v"},
		{
			Name: "SESSION AUTHORIZATION", Set: []string{"SET SESSION AUTHORIZATION pg_monitor"},
			Look: "SELECT session_user || current_user AS v",
		},
		{
			Name: "advisory lock", Set: []string{"SELECT pg_advisory_lock(4711)"},
			Look: "SELECT count(*) AS v FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()",
		},
		{
			Name: "temporary table", Set: []string{"CREATE TEMP TABLE leaked (v text)"},
			Look: "SELECT coalesce(to_regclass('leaked')::text, 'none') AS v",
		},
		{
			Name: "temporary table over another", Set: []string{"CREATE TEMP TABLE part AS SELECT 1 AS v"},
			Look: "SELECT count(*) AS v FROM part",
		},
		{
			Name: "LISTEN", Set: []string{"LISTEN leaked"},
			Look: "SELECT count(*) AS v FROM pg_listening_channels()",
		},
		{
			Name: "PREPARE", Set: []string{"DO $$ BEGIN EXECUTE 'PREPARE leaked AS SELECT 1'; END $$"},
			Look: "SELECT count(*) AS v FROM pg_cursors",
		},
		{
			Name: "DEALLOCATE", Set: []string{"DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"},
			Look: "SELECT 1 AS v",
		},
		{
			Name: "cursor", Set: []string{"DECLARE leaked CURSOR WITH HOLD FOR SELECT 1"},
			Look: "SELECT count(*) AS v FROM pg_cursors WHERE name = 'leaked'",
		},
		{
			Name: "sequence", Set: []string{"CREATE SEQUENCE IF NOT EXISTS s", "SELECT nextval('s')"},
			Look: "SELECT lastval() AS v",
		},
		{
			Name: "read only", Set: []string{"SET default_transaction_read_only = on"},
			Look: "SELECT current_setting('default_transaction_read_only') AS v",
		},
	}
}
