package postgres_test

import (
	"testing"

	"dbrunner/internal/db/dbtest"
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
