package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

func TestOutboxTargets(t *testing.T) {
	t.Parallel()
	check := func(engine, connection string, targets ...string) error {
		cfg := config.Default()
		d := cfg.Defaults.NewDatabase(engine, config.NewSecret("x"))
		d.Outbox = config.Outbox{ConnectionString: config.NewSecret(connection), Targets: targets}
		cfg.Databases["a"] = d
		return cfg.Complete(words())
	}
	require.NoError(t, check("postgres", "y", "jobs.billing.transaction", "jobs.shop-2.query"))
	require.NoError(t, check("postgres", "y", "jobs.billing.query.of_a_name"), "a kind whose jobs name what they run")
	require.NoError(t, check("sqlite", "", "jobs.billing.transaction"), "SQLite has no logins")
	require.NoError(t, check("postgres", ""), "without targets there is no relay")
	require.ErrorContains(t, check("postgres", "", "jobs.billing.transaction"),
		"databases.a.outbox.connection_string: missing; the relay needs a login of its own")
	for target, want := range map[string]string{
		"dbrunner.jobs.billing.query": "entry 1: without the namespace, write the subject of a job behind the namespace, such as jobs.billing.transaction",
		"billing.transaction":         "entry 1: write the subject of a job behind the namespace",
		"jobs.billing":                "entry 1: write the subject of a job behind the namespace",
		"jobs.*.query":                "entry 1: write the subject of a job behind the namespace",
		"jobs.bil!ing.query":          "entry 1: the database of the target is not 1 to 64 of A-Z a-z 0-9 _ -",
		"jobs.billing.qerry":          "entry 1: the kind of the target is unknown; write one of query, transaction",
	} {
		require.ErrorContains(t, check("postgres", "y", target), "databases.a.outbox.targets: "+want, target)
	}
	require.ErrorContains(t, check("postgres", "y", "jobs.a.query", "jobs.a.query"), "databases.a.outbox.targets: entry 2: duplicate entry; remove it")
}
