package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

// TestTerminateUnderLoad ends all sessions in rounds while reads, transactions and calls of the ledger run. What was said to
// be committed is, what was said not to be is not, and the ledger resolves what is unknown. No connection is lost.
func TestTerminateUnderLoad(t *testing.T) {
	t.Parallel()
	const rounds, workers = 60, 12
	b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 4, 6 })
	b.sql("CREATE TABLE item AS SELECT n AS id FROM generate_series(1, 100) n")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	said := map[string]error{}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				n := w*1_000_000 + i
				job := fmt.Sprintf("job-%d", n)
				assert.NotPanics(t, func() {
					switch w % 3 {
					case 0:
						set, err := b.db.Read(t.Context(), db.Call{Timeout: b.opts.Limits.StatementTimeout}, stmt("SELECT id FROM item WHERE id = $1::int", "7"), objects())
						if err == nil {
							assert.JSONEq(t, `[{"id":7}]`, string(set.Rows))
						}
					case 1:
						_, err := b.transact(sealed(job), fmt.Sprintf("INSERT INTO effect (id, note) VALUES (%d, '%s')", n, job))
						mu.Lock()
						said[job] = err
						mu.Unlock()
					default:
						_, _, _ = b.db.Record(t.Context(), entry("r"+job))
						_, _ = b.db.Lookup(t.Context(), job)
					}
				})
			}
		})
	}
	for range rounds {
		b.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbrunner%'")
		time.Sleep(5 * time.Millisecond) // by the clock: so that work is under way again
	}
	stop()
	all.Wait()
	eventually(t, func() bool { return b.db.Stats().InUse == 0 }, "all connections are free")
	eventually(t, func() bool { return b.db.Probe(t.Context()) == nil }, "the pool is whole again")
	require.NotEmpty(t, said)
	for job, err := range said {
		row, lookErr := b.db.Lookup(t.Context(), job)
		require.NoError(t, lookErr)
		require.Equal(t, b.look("SELECT count(*) FROM effect WHERE note = $1", job) == 1, row != nil, "%v", err)
		switch {
		case err == nil:
			require.NotNil(t, row, job)
		case db.ClassOf(err) != db.ClassUnknown:
			require.Nil(t, row, "%s: %v", job, err)
		}
	}
}
