package postgres_test

import (
	"testing"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
)

// TestPgBouncer runs the whole suite through a real pooler in transaction mode, which has fewer sessions than it has
// clients.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pooler := dbtest.StartPgBouncer(t, dbtest.Postgres(t))
	h := harness()
	h.Has.Pooled = true
	h.Options = func(t testing.TB) db.Options {
		o := options(t)
		o.ConnectionString, o.TransactionPool = pooler.URL(t, o.ConnectionString), true
		return o
	}
	dbtest.Run(t, h)
}
