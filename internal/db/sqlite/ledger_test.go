package sqlite_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sqlite"
)

// TestSweepBesideForeignKeys: a foreign key into the ledger, made by a migration or another program, neither keeps rows
// from being deleted nor deletes others with them.
func TestSweepBesideForeignKeys(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"", "ON DELETE RESTRICT", "ON DELETE CASCADE", "ON DELETE SET NULL", "DEFERRABLE INITIALLY DEFERRED"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			d := setup(t, opts, "CREATE TABLE effect (id INTEGER)")
			raw := openRaw(t, opts.ConnectionString)
			for i := range 3 {
				_, err := transact(t.Context(), d, sealed(fmt.Sprint("job", i)), "INSERT INTO effect VALUES (1)")
				require.NoError(t, err)
			}
			_, err := raw.ExecContext(t.Context(), `CREATE TABLE leech (n TEXT, d TEXT, j TEXT,
				FOREIGN KEY (n, d, j) REFERENCES dbrunner_ledger (namespace, database_name, job_id) `+action+`);
				INSERT INTO leech SELECT namespace, database_name, job_id FROM dbrunner_ledger`)
			require.NoError(t, err)
			n, err := d.Sweep(t.Context(), time.Now().Add(time.Hour), 2)
			require.NoError(t, err)
			require.Equal(t, 2, n)
			require.Equal(t, "[[3]]", rows(t, d, "SELECT count(j) FROM leech"))
			_, err = transact(t.Context(), d, nil, "INSERT INTO leech VALUES ('a', 'b', 'c')")
			require.Equal(t, db.ClassPermanent, db.ClassOf(err), "keys are enforced again")
		})
	}
}

// TestSweepNamesRowsByKey: whatever the table of the ledger looks like, old rows of this database are deleted and no others.
func TestSweepNamesRowsByKey(t *testing.T) {
	t.Parallel()
	ddl := sqlite.DDL()
	for name, ddl := range map[string]string{
		"as printed":      ddl,
		"without row ids": strings.Replace(ddl, "job_id)\n)", "job_id)\n) WITHOUT ROWID", 1),
		"with a column":   strings.Replace(ddl, "    answer  ", "    rowid INTEGER NOT NULL DEFAULT 7,\n    answer  ", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			opts.Ledger = db.LedgerVerify
			raw := openRaw(t, opts.ConnectionString)
			_, err := raw.ExecContext(t.Context(), ddl)
			require.NoError(t, err)
			d := setup(t, opts, "CREATE TABLE effect (id INTEGER)")
			for _, id := range []string{"a", "b", "c"} {
				_, err = transact(t.Context(), d, sealed(id), "INSERT INTO effect VALUES (1)")
				require.NoError(t, err)
			}
			_, err = raw.ExecContext(t.Context(), `UPDATE dbrunner_ledger SET recorded_at = 5 WHERE job_id = 'b';
				INSERT INTO dbrunner_ledger (namespace, database_name, job_id, status, sequence, message_time, runner, recorded_at)
				VALUES ('dbrunner', 'other', 'b', 'succeeded', 1, 1, 'r', 5), ('other', 'demo', 'b', 'succeeded', 1, 1, 'r', 5)`)
			require.NoError(t, err)
			n, err := d.Sweep(t.Context(), time.Now().Add(-time.Hour), 500)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.JSONEq(t, `[["a"],["b"],["b"],["c"]]`, rows(t, d, "SELECT job_id FROM dbrunner_ledger ORDER BY job_id"))
		})
	}
}

// TestFenceNeedsItsRow: an INSERT into the ledger that succeeds without a row is no fence.
func TestFenceNeedsItsRow(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE effect (id INTEGER)")
	raw := openRaw(t, opts.ConnectionString)
	_, err := raw.ExecContext(t.Context(), "CREATE TRIGGER x BEFORE INSERT ON dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END")
	require.NoError(t, err)
	_, err = transact(t.Context(), d, sealed("a"), "INSERT INTO effect VALUES (1)")
	require.ErrorContains(t, err, "remove the trigger or view")
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err))
	_, _, err = d.Record(t.Context(), entry("a"))
	require.ErrorContains(t, err, "remove the trigger or view")
	require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM effect"))
}
