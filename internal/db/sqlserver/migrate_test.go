package sqlserver_test

import (
	"testing"

	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/sqlserver"
)

func TestMigrations(t *testing.T) {
	t.Parallel()
	_ = dbtest.SQLServer(t) // skips all of it in one line where there is none
	dbtest.RunMigrations(t, dbtest.MigrationHarness{
		Options:    options,
		Engine:     sqlserver.Migrations,
		Slow:       "WAITFOR DELAY '00:02:00'",
		Function:   "CREATE PROCEDURE answer AS\nBEGIN\n  DECLARE @n int = 41; -- a comment; with GO\n  SET @n = @n + 1;\n  INSERT INTO log VALUES (@n);\nEND\nGO\nCREATE TABLE log (n int)\nGO\nEXEC answer\n",
		Called:     "SELECT n FROM log",
		Alone:      "CREATE DATABASE dbrunner_alone\nGO\nDROP DATABASE dbrunner_alone",
		AloneFails: "DROP DATABASE dbrunner_gone",
		Blames:     true,
		Lacks:      dbtest.SQLServerLacks(),
	})
}
