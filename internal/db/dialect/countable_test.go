package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

func TestNotCountable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect *dialect.Dialect
		sql     string
		what    string
	}{
		{dialect.Postgres(), "/* a */ -- b\n INSERT INTO a VALUES (1)", ""},
		{dialect.Postgres(), "(SELECT 1)", ""},
		{dialect.Postgres(), "WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", ""},
		{dialect.Postgres(), "DO $$BEGIN TRUNCATE a; END$$", ""}, // its lock is found
		{dialect.Postgres(), "truncate a", "TRUNCATE A"},
		{dialect.Postgres(), "CREATE UNIQUE INDEX a ON b (c)", "CREATE UNIQUE"},
		{dialect.Postgres(), "GRANT SELECT ON a TO b", "GRANT"},
		{dialect.Postgres(), "VACUUM a", "VACUUM"},
		{dialect.Postgres(), "\"x\"", "this statement"},
		{dialect.SQLite(), "REPLACE INTO a VALUES (1)", ""},
		{dialect.SQLite(), "DROP TABLE a", "DROP TABLE"},
		{dialect.SQLServer(), "UPDATE a SET b = 'EXEC' -- EXEC", ""},
		{dialect.SQLServer(), "SELECT [exec], \"create\" FROM a", ""},
		{dialect.SQLServer(), "SELECT @exec", ""},
		{dialect.SQLServer(), "DELETE FROM a OUTPUT deleted.id WHERE b IN (SELECT 1)", ""},
		{dialect.SQLServer(), "MERGE a USING b ON a.c = b.c WHEN MATCHED THEN DELETE OPTION (MERGE JOIN);", ""},
		{dialect.SQLServer(), "INSERT INTO a SELECT id FROM (DELETE FROM b OUTPUT deleted.id) AS d (id) WHERE id = 1", "DELETE inside another statement"},
		{dialect.SQLServer(), "INSERT INTO a SELECT id FROM ( /* x */ update b SET c = 1 OUTPUT deleted.id) AS d", "UPDATE inside another statement"},
		{dialect.SQLServer(), "sp_rename 'a', 'b'", "SP_RENAME"},
		{dialect.SQLServer(), "DELETE FROM a exec b", "EXEC"},
		{dialect.SQLServer(), "SELECT 1 SET nocount ON DELETE FROM a", "NOCOUNT"},
		{dialect.SQLServer(), "SELECT * FROM OPENQUERY(there, 'DELETE FROM a')", "OPENQUERY"},
		{dialect.SQLServer(), "IF 1 = 1 TRUNCATE TABLE a", "TRUNCATE"},
		{dialect.SQLServer(), "GRANT SELECT ON a TO b", "GRANT"},
	} {
		require.Equal(t, c.what, dialect.NotCountable(c.dialect, c.sql), c.sql)
	}
}
