package app_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// TestBehindPgBouncer runs jobs of all kinds on a database behind a real pooler in transaction mode, with a way past it
// for what needs a session: each has its effect once.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	direct := dbtest.Postgres(t)
	pooler := dbtest.StartPgBouncer(t, direct, "default_pool_size = 2")
	shop := withDatabase("shop", "postgres", pooler.URL(t, direct), func(d *config.Database) {
		d.Pooler, d.DirectConnectionString = config.PoolerTransaction, config.NewSecret(direct)
	}, withFolder(folder(t, map[string]string{
		"V1__orders.sql": "CREATE TABLE orders (id INTEGER NOT NULL);",
		"V2__index.sql":  "CREATE INDEX CONCURRENTLY orders_id ON orders (id);",
	})))
	runners := []*runner{w.start(w.config("r1", shop))}
	wholeWay(t, w)
	runners = append(runners, w.start(w.config("r2", shop)))

	up := w.migrate("shop", "up", `"action":"up"`)
	require.Equal(t, "succeeded", up.Status, "%+v", up)
	require.Equal(t, "2", up.VersionAfter)

	for id, job := range map[string]string{
		"vacuum": `"sql":"VACUUM orders"`,
		"again":  `"effect":"at_least_once","sql":"REINDEX TABLE CONCURRENTLY orders"`,
		"once":   `"sql":"INSERT INTO orders VALUES (0)"`,
	} {
		done := w.do("shop", "statement", id, job)
		require.Equal(t, "succeeded", done.Status, "%s: %+v", id, done.Error)
	}
	inbox, sub := w.inbox()
	w.publish("shop", "statement", fmt.Sprintf(`{"id":"once","reply_to":%q,"sql":"INSERT INTO orders VALUES (0)"}`, inbox))
	require.True(t, w.next(sub).Duplicate)

	const orders = 40
	for range 2 { // every job comes twice, for either runner
		for i := range orders {
			w.publish("shop", "transaction", fmt.Sprintf(`{"id":"order_%d","statements":[{"sql":"INSERT INTO orders VALUES (:n)","params":{"n":%d}}]}`, i, i+1))
		}
	}
	for i := range orders {
		require.Equal(t, "succeeded", w.await("shop", fmt.Sprintf("order_%d", i)).Status)
	}
	for _, r := range runners {
		r.end(t)
	}
	require.Zero(t, w.waiting("shop"), "every job is acknowledged")
	w.start(w.config("r3", shop))
	counted := w.do("shop", "query", "count", `"sql":"SELECT count(*)::int AS n, count(DISTINCT id)::int AS d FROM orders","row_format":"arrays"`)
	require.Equal(t, []any{[]any{orders + 1.0, orders + 1.0}}, counted.Rows)
}
