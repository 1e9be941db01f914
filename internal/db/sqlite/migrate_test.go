package sqlite_test

import (
	"testing"

	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/sqlite"
)

func TestMigrations(t *testing.T) {
	t.Parallel()
	dbtest.RunMigrations(t, dbtest.MigrationHarness{
		Options: options,
		Engine:  sqlite.Migrations,
		Slow:    "CREATE TABLE slow AS SELECT max(n) AS n FROM (" + numbers(1<<40) + ")",
		Function: "CREATE TABLE log (n INTEGER);\nCREATE TRIGGER noted AFTER INSERT ON item BEGIN\n  INSERT INTO log VALUES (41); -- one; two\n" +
			"  UPDATE log SET n = CASE WHEN n = 41 THEN 42 ELSE n END;\nEND;\nINSERT INTO item (id, name) VALUES (7, 'x');",
		Called:     "SELECT n FROM log",
		Alone:      "VACUUM",
		AloneFails: "VACUUM gone",
	})
}
