package sqlite_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/db/sqlite"
)

// TestJobsCannotWriteTheOutbox also through triggers, views and keys of others: a row there reaches every target.
func TestJobsCannotWriteTheOutbox(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE effect (id INTEGER PRIMARY KEY)")
	table, err := sqlite.Outbox(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, table.Close()) })
	require.NoError(t, table.Prepare(t.Context()))
	raw := openRaw(t, opts.ConnectionString) // as the application, which may
	const row = "INSERT INTO dbrunner_outbox (id, target, body) VALUES ('a', 'jobs.b.transaction', '{}')"
	_, err = raw.ExecContext(t.Context(), row+`;
		CREATE TABLE watched (id INTEGER PRIMARY KEY);
		CREATE TRIGGER t1 AFTER INSERT ON watched BEGIN INSERT INTO dbrunner_outbox (id, target, body) VALUES ('b', 'x', '{}'); END;
		CREATE TRIGGER t2 AFTER UPDATE ON watched BEGIN UPDATE dbrunner_outbox SET target = 'x'; END;
		CREATE TRIGGER t3 AFTER DELETE ON watched BEGIN DELETE FROM dbrunner_outbox; END;
		CREATE VIEW side AS SELECT 1 AS id;
		CREATE TRIGGER t4 INSTEAD OF INSERT ON side BEGIN INSERT INTO dbrunner_outbox (id, target, body) VALUES ('c', 'x', '{}'); END;
		INSERT INTO watched VALUES (1)`)
	require.NoError(t, err)
	for _, sql := range []string{
		row, "INSERT INTO main.Dbrunner_Outbox (id, target, body) SELECT 'a', 'x', '{}'", "REPLACE INTO dbrunner_outbox (id, target, body) VALUES ('a', 'x', '{}')",
		"UPDATE dbrunner_outbox SET claimed_until = 0", "DELETE FROM dbrunner_outbox", "DROP TABLE dbrunner_outbox",
		"ALTER TABLE dbrunner_outbox RENAME TO gone", "CREATE INDEX i ON dbrunner_outbox (id)",
		"CREATE TRIGGER t5 AFTER INSERT ON effect BEGIN INSERT INTO dbrunner_outbox (id, target, body) VALUES ('c', 'x', '{}'); END",
		"CREATE TRIGGER t6 BEFORE DELETE ON dbrunner_outbox BEGIN SELECT RAISE(IGNORE); END",
		"INSERT INTO watched VALUES (2)", "UPDATE watched SET id = 3", "DELETE FROM watched", "INSERT INTO side VALUES (1)",
		"CREATE TABLE leech (t REFERENCES dbrunner_outbox (token) ON DELETE CASCADE)",
	} {
		_, err := transact(t.Context(), d, nil, sql)
		require.Error(t, err, sql)
		require.Contains(t, err.Error(), "jobs must not change the ledger, the migration history or the outbox", sql)
	}
	require.Equal(t, "[[2]]", rows(t, d, "SELECT count(*) FROM dbrunner_outbox"), "reading is allowed")
	claimed, err := table.Claim(t.Context(), outboxtable.Claim{Rows: 10, Bytes: 1 << 20, For: time.Minute})
	require.NoError(t, err)
	require.Len(t, claimed.Rows, 2)
	writable, err := table.Writable(t.Context())
	require.NoError(t, err)
	require.False(t, writable)
}
