package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

// A text of SQL Server may hold several statements without a semicolon: its keywords count wherever they stand.
func TestWordsAnywhere(t *testing.T) {
	t.Parallel()
	for sql, code := range map[string]contract.Code{
		"SELECT 1 COMMIT":                               contract.CodeTransactionControl,
		"UPDATE t SET a = 1 rollback":                   contract.CodeTransactionControl,
		"SET XACT_ABORT OFF BEGIN TRAN":                 contract.CodeTransactionControl,
		"SET TRANSACTION ISOLATION LEVEL SNAPSHOT":      contract.CodeTransactionControl,
		"IF 1 = 1 SAVE TRANSACTION x":                   contract.CodeTransactionControl,
		"SELECT 1\nGO\nSELECT 2":                        contract.CodeMultipleStatements,
		"SELECT 1\r\n  go 5 \r\n":                       contract.CodeMultipleStatements,
		"SELECT 1 AS n; SELECT 2 AS n":                  contract.CodeMultipleStatements,
		"SELECT 1; CREATE PROCEDURE p AS SELECT 2":      contract.CodeMultipleStatements,
		"CREATE TABLE t (a int); SELECT 1":              contract.CodeMultipleStatements,
		"CREATE PROCEDURE p AS BEGIN TRAN COMMIT":       contract.CodeTransactionControl,
		"SELECT 'it''s' COMMIT":                         contract.CodeTransactionControl,
		"SELECT [a]]b] COMMIT":                          contract.CodeTransactionControl,
		"SELECT /* /* nested */ */ 1 COMMIT -- comment": contract.CodeTransactionControl,
	} {
		faults := dialect.CheckText(sqlserver(), sql)
		require.NotEmpty(t, faults, sql)
		require.Equal(t, code, faults[0].Code, sql)
	}
	for _, sql := range []string{
		"SELECT [COMMIT], 'ROLLBACK', \"SAVE\" FROM t -- COMMIT",
		"SELECT 1 /* COMMIT */", "SELECT @commit, @@TRANCOUNT, @go", "SELECT committed, transaction_id FROM t",
		"SELECT go FROM t", "SELECT 1 AS go", "SELECT 'x\n GO \n'", "SELECT 1;",
		"CREATE PROCEDURE p AS BEGIN SELECT 1; SELECT 2; END",
		"CREATE OR ALTER PROC p AS SELECT 1; SELECT 2", "ALTER FUNCTION f() RETURNS int AS BEGIN DECLARE @a int; RETURN 1; END",
		"CREATE TRIGGER x ON t AFTER INSERT AS SELECT 1; SELECT 2;",
	} {
		require.Empty(t, dialect.CheckText(sqlserver(), sql), sql)
	}
}

func TestWritingWords(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x", "SELECT * INTO t FROM u", "SELECT 1 DELETE FROM t",
		"SELECT 1 exec p", "INSERT INTO t VALUES (1)",
	} {
		faults := dialect.CheckReadOnly(sqlserver(), sql)
		require.NotEmpty(t, faults, sql)
		require.Equal(t, contract.CodeReadOnly, faults[0].Code)
	}
	for _, sql := range []string{"SELECT [insert], 'DELETE' FROM t /* EXEC */", "WITH x AS (SELECT 1 AS a) SELECT a FROM x"} {
		require.Empty(t, dialect.CheckReadOnly(sqlserver(), sql), sql)
	}
	require.Empty(t, dialect.CheckReadOnly(postgres(), "SELECT insert, \"into\" FROM t"), "no keywords there")
	for _, sql := range []string{
		"SELECT NEXT VALUE FOR seq", "SELECT id, next/**/Value -- x\n for dbo.seq OVER (ORDER BY id) FROM t", "SELECT next NEXT VALUE FOR seq FROM t",
	} {
		faults := dialect.CheckReadOnly(sqlserver(), sql)
		require.Len(t, faults, 1, sql)
		require.Contains(t, faults[0].Message, "NEXT VALUE FOR", sql)
	}
	for _, sql := range []string{
		"SELECT next value FROM t FOR XML PATH", "SELECT [NEXT] VALUE FOR XML", "SELECT next, value FROM t", "SELECT @next value FROM t", "SELECT 'NEXT VALUE FOR seq' AS n",
	} {
		require.Empty(t, dialect.CheckReadOnly(sqlserver(), sql), sql)
	}
	require.Empty(t, dialect.CheckReadOnly(postgres(), "SELECT next value FROM t"), "its transactions are READ ONLY")
}
