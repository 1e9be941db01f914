package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

func TestCompileOutside(t *testing.T) {
	t.Parallel()
	d := sqlserver()
	d.ForbiddenFirst = words("USE", "BACKUP", "DBCC")
	d.AutocommitVerbs = words("BACKUP", "DBCC")
	for sql, codes := range map[string][]contract.Code{
		"SELECT 1":                           nil,
		"BACKUP DATABASE a TO DISK = 'x'":    nil,
		"/* x */ backup log a TO DISK = 'x'": nil,
		"DBCC CHECKDB; SELECT 1":             {contract.CodeMultipleStatements},
		"BACKUP DATABASE a COMMIT":           {contract.CodeTransactionControl},
		"USE a":                              {contract.CodeForbiddenStatement},
		"BACKUP DATABASE :a":                 {contract.CodeParameter},
		"":                                   {contract.CodeSyntax},
	} {
		compiled, faults := dialect.CompileAutocommit(d, dialect.Statement{SQL: sql})
		var got []contract.Code
		for _, f := range faults {
			got = append(got, f.Code)
		}
		require.Equal(t, codes, got, sql)
		require.Equal(t, codes == nil, compiled != nil, sql)
	}
	with := dialect.Statement{SQL: "BACKUP DATABASE :a TO DISK = :b", Params: dialect.Params{Named: map[string]dialect.Value{"a": text("x"), "b": text("y")}}}
	compiled, faults := dialect.CompileAutocommit(d, with)
	require.Empty(t, faults)
	require.Equal(t, "BACKUP DATABASE @p1 TO DISK = @p2", compiled.SQL)
	_, faults = dialect.Compile(d, with)
	require.NotEmpty(t, faults, "inside of a transaction it is refused")
}

func TestHasWord(t *testing.T) {
	t.Parallel()
	for sql, has := range map[string]bool{
		"CREATE INDEX CONCURRENTLY i ON t (a)":                true,
		"REINDEX (concurrently, VERBOSE) TABLE t":             true,
		"CREATE INDEX/**/Concurrently i ON t (a)":             true,
		"COMMENT ON INDEX i IS 'CONCURRENTLY'":                false,
		`REINDEX TABLE "CONCURRENTLY"`:                        false,
		"VACUUM t -- CONCURRENTLY":                            false,
		"VACUUM concurrently_t":                               false,
		"DO $$ BEGIN PERFORM 'x'; END; $$ /* CONCURRENTLY */": false,
	} {
		require.Equal(t, has, dialect.HasWord(postgres(), sql, "CONCURRENTLY"), sql)
	}
}
