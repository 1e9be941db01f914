package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// TestMaxAffectedNeedsKinds refuses a limit on rows together with a kind that it does not cover.
func TestMaxAffectedNeedsKinds(t *testing.T) {
	t.Parallel()
	all := words()
	all.Kinds = append(all.Kinds, "statement", "migration", "health")
	for _, c := range []struct {
		keys string
		ok   bool
	}{
		{"max_affected: 10", false},
		{"max_affected: 10, kinds: [query, statement]", false},
		{"max_affected: 10, kinds: [query, transaction, migration, health]", true},
		{"kinds: [statement]", true},
	} {
		cfg, err := config.Load(config.Options{File: file(t, entry(c.keys)), Words: all})
		if c.ok {
			require.NoError(t, err, c.keys)
			continue
		}
		require.Nil(t, cfg)
		require.ErrorContains(t, err, "databases.a.kinds: max_affected does not limit jobs of kind statement", c.keys)
		require.ErrorContains(t, err, "write kinds without it, such as [query, transaction, migration, health]", c.keys)
	}
}
