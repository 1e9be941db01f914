package db_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

func TestCompileOutside(t *testing.T) {
	t.Parallel()
	d := sqlserver()
	d.ForbiddenFirst = words("USE", "BACKUP", "DBCC")
	d.AutocommitVerbs = words("BACKUP", "DBCC")
	for sql, codes := range map[string][]db.Code{
		"SELECT 1":                           nil,
		"BACKUP DATABASE a TO DISK = 'x'":    nil,
		"/* x */ backup log a TO DISK = 'x'": nil,
		"DBCC CHECKDB; SELECT 1":             {db.CodeMultipleStatements},
		"BACKUP DATABASE a COMMIT":           {db.CodeTransactionControl},
		"USE a":                              {db.CodeForbiddenStatement},
		"BACKUP DATABASE :a":                 {db.CodeParameter},
		"":                                   {db.CodeSyntax},
	} {
		compiled, faults := db.CompileAutocommit(d, db.Statement{SQL: sql})
		var got []db.Code
		for _, f := range faults {
			got = append(got, f.Code)
		}
		require.Equal(t, codes, got, sql)
		require.Equal(t, codes == nil, compiled != nil, sql)
	}
	with := db.Statement{SQL: "BACKUP DATABASE :a TO DISK = :b", Params: db.Params{Named: map[string]db.Value{"a": text("x"), "b": text("y")}}}
	compiled, faults := db.CompileAutocommit(d, with)
	require.Empty(t, faults)
	require.Equal(t, "BACKUP DATABASE @p1 TO DISK = @p2", compiled.SQL)
	_, faults = db.Compile(d, with)
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
		require.Equal(t, has, db.HasWord(postgres(), sql, "CONCURRENTLY"), sql)
	}
}

func TestJobLock(t *testing.T) {
	t.Parallel()
	lock := db.JobLock("dbrunner", "shop", "a1")
	require.Equal(t, lock, db.JobLock("dbrunner", "shop", "a1"))
	for _, other := range [][3]string{{"dbrunne", "rshop", "a1"}, {"dbrunner", "shop", "a2"}, {"dbrunner", "shop2", "a1"}, {"x", "shop", "a1"}} {
		require.NotEqual(t, lock, db.JobLock(other[0], other[1], other[2]))
	}
}
