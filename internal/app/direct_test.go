package app_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// TestStatementsPastAPooler: behind a pooler in transaction mode, statements outside of transactions run over a way past
// it, and are refused where there is none.
func TestStatementsPastAPooler(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	pooled := func(d *config.Database) { d.Pooler = config.PoolerTransaction }
	past := func(d *config.Database) { d.DirectConnectionString = config.NewSecret(dsn) }
	w.start(w.config("r1", withDatabase("shop", "postgres", dsn, pooled, past), withDatabase("bare", "postgres", dsn, pooled)))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createAccounts).Status)
	for _, effect := range []string{"at_most_once", "at_least_once"} {
		require.Equal(t, "succeeded", w.do("shop", "statement", effect, `"effect":"`+effect+`","sql":"VACUUM accounts"`).Status)
	}
	refused := w.do("bare", "statement", "vacuum", `"sql":"VACUUM accounts"`)
	require.Equal(t, "rejected", refused.Status)
	require.Equal(t, "kind_not_allowed", refused.Error.Code)
}
