package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// partitions are ways in which a DBA may have partitioned the ledger: rows of several partitions have the same ctid.
var partitions = map[string][]string{
	"hash": {
		"PARTITION BY HASH (job_id)",
		"CREATE TABLE dbrunner.ledger_0 PARTITION OF dbrunner.ledger FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
		"CREATE TABLE dbrunner.ledger_1 PARTITION OF dbrunner.ledger FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
	},
	"list": {
		"PARTITION BY LIST (database_name)",
		"CREATE TABLE dbrunner.ledger_0 PARTITION OF dbrunner.ledger FOR VALUES IN ('test_db')",
		"CREATE TABLE dbrunner.ledger_1 PARTITION OF dbrunner.ledger DEFAULT",
	},
	"range of two levels": {
		"PARTITION BY RANGE (job_id)",
		"CREATE TABLE dbrunner.ledger_0 PARTITION OF dbrunner.ledger FOR VALUES FROM (MINVALUE) TO ('job20')",
		"CREATE TABLE dbrunner.ledger_1 PARTITION OF dbrunner.ledger FOR VALUES FROM ('job20') TO (MAXVALUE) PARTITION BY HASH (job_id)",
		"CREATE TABLE dbrunner.ledger_2 PARTITION OF dbrunner.ledger_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
		"CREATE TABLE dbrunner.ledger_3 PARTITION OF dbrunner.ledger_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
	},
}

const ledgerColumns = `(namespace text NOT NULL, database_name text NOT NULL, job_id text NOT NULL, request_hash bytea, status text NOT NULL,
	answer bytea NOT NULL, sequence bigint NOT NULL, message_time bigint NOT NULL, runner text NOT NULL,
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (namespace, database_name, job_id))`

// TestSweepOfPartitions deletes what is old from a partitioned ledger, and nothing else: neither recent rows, nor those of
// another database or namespace, nor more than it was allowed to.
func TestSweepOfPartitions(t *testing.T) {
	t.Parallel()
	for name, ddl := range partitions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.sql("DROP TABLE dbrunner.ledger; CREATE TABLE dbrunner.ledger " + ledgerColumns + ddl[0])
			for _, sql := range ddl[1:] {
				b.sql(sql)
			}
			require.NoError(t, b.db.Probe(t.Context()))
			for i := range 40 {
				_, _, err := b.db.Record(t.Context(), entry(fmt.Sprintf("job%d", i)))
				require.NoError(t, err)
			}
			// The same ids belong to another database and to another namespace: rows at the same places.
			b.sql("INSERT INTO dbrunner.ledger SELECT namespace, 'other', job_id, request_hash, status, answer, sequence, message_time, runner FROM dbrunner.ledger")
			b.sql("INSERT INTO dbrunner.ledger SELECT 'other', database_name, job_id, request_hash, status, answer, sequence, message_time, runner FROM dbrunner.ledger WHERE database_name = 'test_db'")
			const old = "job_id IN (SELECT 'job' || n FROM generate_series(0, 39, 3) n)"
			b.sql("UPDATE dbrunner.ledger SET recorded_at = now() - interval '10 days' WHERE database_name = 'test_db' AND namespace = 'dbrunner' AND " + old)
			b.sql("VACUUM FULL dbrunner.ledger")

			deleted := 0
			for _, want := range []int{5, 5, 4, 0} {
				n, err := b.db.Sweep(t.Context(), time.Now().Add(-48*time.Hour), 5)
				require.NoError(t, err)
				require.Equal(t, want, n)
				deleted += n
			}
			require.Equal(t, 14, deleted)
			require.Equal(t, 26, b.look("SELECT count(*) FROM dbrunner.ledger WHERE namespace = 'dbrunner' AND database_name = 'test_db'"))
			require.Zero(t, b.look("SELECT count(*) FROM dbrunner.ledger WHERE namespace = 'dbrunner' AND database_name = 'test_db' AND "+old))
			require.Equal(t, 120-14, b.look("SELECT count(*) FROM dbrunner.ledger"))
		})
	}
}
