package sqlite_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// What is wrong with a statement has the same code whether or not the connection had compiled it before the schema changed.
func TestStatementThatDoesNotCompileAnyMore(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE gone (id INTEGER)", "CREATE TABLE transaction_log (id INTEGER)", "CREATE TABLE kept (id INTEGER, note TEXT)")
	statements := map[string]contract.Code{
		"INSERT INTO gone VALUES (1)":              contract.CodeUndefined,
		"INSERT INTO transaction_log VALUES (1)":   contract.CodeUndefined,
		"SELECT note FROM kept WHERE note IS NULL": contract.CodeUndefined,
		"INSERT INTO kept (note) VALUES ('x')":     contract.CodeUndefined,
		// compiles, and fails on its value
		"UPDATE kept SET id = json_extract('{', '$')": contract.CodeData,
	}
	for sql := range statements {
		_, _ = transact(t.Context(), d, nil, sql)
	}
	_, err := transact(t.Context(), d, nil, "INSERT INTO kept (id) VALUES (1)")
	require.NoError(t, err)
	_, err = openRaw(t, opts.ConnectionString).ExecContext(t.Context(),
		"DROP TABLE gone; DROP TABLE transaction_log; ALTER TABLE kept DROP COLUMN note")
	require.NoError(t, err)
	for sql, code := range statements {
		for _, sql := range []string{sql, sql + " "} { // kept by the connection, and new to it
			_, err := transact(t.Context(), d, nil, sql)
			var failure *db.Error
			require.ErrorAs(t, err, &failure, sql)
			require.Equal(t, code, failure.Code, "%s: %v", sql, err)
			require.Equal(t, db.ClassPermanent, failure.Class, sql)
		}
	}
	for _, again := range []string{"CREATE TABLE twice (id INTEGER)", "CREATE TEMP TABLE twice (id INTEGER)"} {
		_, err := transact(t.Context(), d, nil, again, again)
		var failure *db.Error
		require.ErrorAs(t, err, &failure)
		require.Equal(t, contract.CodeDatabase, failure.Code, "%v", err)
		require.Contains(t, failure.Message, "already exists")
	}
}
