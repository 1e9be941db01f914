package config

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzLoad holds that no file and no environment makes loading panic, that its only error is a *Faults, and that
// what was accepted is complete.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../../examples/config/runner.yaml")
	require.NoError(f, err)
	f.Add(example, "RPA_DB_CONNECTION_STRING=x")
	f.Add([]byte("databases: {a: {type: sqlite, connection_string: x, slots: 3}}"), "A_POOL_MAX=3")
	f.Add([]byte("a: &a [*a]\n? {b: c}\n: d"), "RUNNER_DATABASES=a,b,a-b")
	f.Add([]byte("nats: {urls: [\"nats://u:p@h\"], tls: null}\n<<: {a: b}"), "RUNNER_NATS_URLS=,")
	f.Add([]byte("databases:\n  ? [1]\n  : 2\n  'a b': 1\ndefaults: {by_kind: {query: null}}"), "RUNNER_DEFAULTS_SETTINGS==")
	words := Words{
		Engines: []string{"postgres", "sqlserver", "sqlite"}, Kinds: []string{"query"},
		Effects: []string{"read_only", "exactly_once"}, DeadLetters: []string{"failed"},
	}
	f.Fuzz(func(t *testing.T, text []byte, variable string) {
		cfg, err := load(text, Options{Environ: []string{variable}, Words: words})
		if err != nil {
			var faults *Faults
			require.ErrorAs(t, err, &faults)
			require.NotEmpty(t, faults.List)
			require.NotEmpty(t, err.Error())
			return
		}
		require.NotEmpty(t, cfg.Databases)
		for _, d := range cfg.Databases {
			require.Contains(t, words.Engines, d.Type)
			require.False(t, d.ConnectionString.Empty())
			require.Positive(t, d.Slots)
		}
		require.NoError(t, cfg.Complete(words), "what was accepted is accepted again")
	})
}
