package manager

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
)

func TestPoolerAndStatements(t *testing.T) {
	t.Parallel()
	pooled := func(change func(*config.Database)) error {
		d := &config.Database{}
		d.Pooler = config.PoolerTransaction
		change(d)
		require.True(t, Policy(&config.Config{}, d).Pooled)
		return checkPooled(d)
	}
	require.NoError(t, pooled(func(*config.Database) {}), "what is not asked for by name is refused job by job")
	require.ErrorContains(t, pooled(func(d *config.Database) { d.Kinds = []string{"query", "statement"} }), "kinds: statement needs a session")
	require.ErrorContains(t, pooled(func(d *config.Database) { d.Effects = []string{"at_most_once"} }), "effects: at_most_once needs a session")
	direct := &config.Database{}
	direct.Pooler, direct.Kinds = config.PoolerNone, []string{"statement"}
	require.NoError(t, checkPooled(direct))
	require.False(t, Policy(&config.Config{}, direct).Pooled)
	past := &config.Database{DirectConnectionString: config.NewSecret("postgres://past/it")}
	past.Pooler, past.Kinds = config.PoolerTransaction, []string{"statement"}
	require.NoError(t, checkPooled(past))
	require.False(t, Policy(&config.Config{}, past).Pooled)
}

// Only what does not roll back whole goes on without its lease.
func TestLanesKnowWhatOutlivesALease(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, l := range jobs.Lanes(nil) {
		for _, kind := range l.Outlives {
			require.True(t, kind == "statement" || kind == "migration", kind)
			found[kind] = true
		}
	}
	require.True(t, found["statement"])
}
