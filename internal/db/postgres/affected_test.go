package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// limited is a transaction with a limit on rows.
func limited(limit int64, sql ...string) *db.Transaction {
	tx := transaction(sql...)
	tx.MaxAffected = limit
	return tx
}

// TestNoCountsWithoutTrackCounts has a server that counts no rows: where the configuration limits them it is not fit, and a
// job with a limit of its own fails.
func TestNoCountsWithoutTrackCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END$$")
	opts := b.opts
	opts.Limits.CountsRows = true
	blind := b.open(opts)
	require.ErrorContains(t, blind.Probe(t.Context()), "track_counts is off")
	_, err := blind.Transact(t.Context(), call(), limited(10, "INSERT INTO effect VALUES (1)"), objects(), sealed("job"))
	e := requireError(t, err, db.ClassPermanent, contract.CodeNotCountable)
	require.Contains(t, e.Message, "track_counts is off")
	_, err = blind.Transact(t.Context(), call(), transaction("INSERT INTO effect VALUES (1)"), objects(), sealed("job"))
	require.NoError(t, err)

	// A superuser can turn the counts off in the transaction.
	counting := b.open(b.opts)
	b.sql("DO $$BEGIN EXECUTE format('ALTER DATABASE %I RESET track_counts', current_database()); END$$")
	_, err = counting.Transact(t.Context(), call(), limited(1, "SET LOCAL track_counts = off", "INSERT INTO effect SELECT generate_series(10, 20)"), objects(), nil)
	requireError(t, err, db.ClassPermanent, contract.CodeNotCountable)
}

// TestCountsWhatItsSnapshotDoesNotKnow writes to a table that another session made after the snapshot was taken, which the
// transaction's own look at the catalog does not show.
func TestCountsWhatItsSnapshotDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("SELECT pg_advisory_lock(4711)")
	tx := limited(5, "SELECT pg_advisory_xact_lock(4711)::text AS n", "INSERT INTO fresh SELECT generate_series(1, 6)")
	tx.Isolation = db.RepeatableRead
	end := make(chan error, 1)
	go func() {
		_, err := b.db.Transact(t.Context(), call(), tx, objects(), sealed("job"))
		end <- err
	}()
	eventually(t, func() bool {
		var n int
		require.NoError(t, b.admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "+
			"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n))
		return n == 1
	}, "the transaction has its snapshot")
	b.sql("CREATE TABLE fresh (id integer)")
	b.sql("SELECT pg_advisory_unlock(4711)")
	e := requireError(t, <-end, db.ClassPermanent, contract.CodeMaxAffected)
	require.Contains(t, e.Message, "wrote 6 rows, and max_affected is 5")
}

// TestCountsAttemptsSeparately has the first attempt end at a plan that has become stale, after it has written.
func TestCountsAttemptsSeparately(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql("INSERT INTO effect SELECT generate_series(1, 6)")
	for round := range 3 {
		tx := limited(6, "UPDATE effect SET note = 'x'", "SELECT * FROM effect WHERE id = 1")
		_, err := b.db.Transact(t.Context(), call(), tx, objects(), sealed(fmt.Sprint("job", round)))
		require.NoError(t, err)
		tx.MaxAffected = 5
		_, err = b.db.Transact(t.Context(), call(), tx, objects(), nil)
		requireError(t, err, db.ClassPermanent, contract.CodeMaxAffected)
		b.sql(fmt.Sprintf("ALTER TABLE effect ADD COLUMN more%d integer", round))
	}
}

// TestDeferredTriggersAreNotCounted shows the documented limit of the counts.
func TestDeferredTriggersAreNotCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("CREATE TABLE trail (id bigint)")
	b.sql("CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO trail VALUES (1), (2); RETURN NULL; END$$")
	b.sql("CREATE CONSTRAINT TRIGGER t AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION leave()")
	_, err := b.db.Transact(t.Context(), call(), limited(1, "INSERT INTO effect VALUES (1)"), objects(), sealed("late"))
	require.NoError(t, err)
	_, err = b.db.Transact(t.Context(), call(), limited(1, "SET CONSTRAINTS ALL IMMEDIATE", "INSERT INTO effect VALUES (2)"), objects(), sealed("now"))
	e := requireError(t, err, db.ClassPermanent, contract.CodeMaxAffected)
	require.Contains(t, e.Message, "wrote 3 rows")
}
