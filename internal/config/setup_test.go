package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

func words() config.Words {
	return config.Words{
		Engines:     []string{"postgres", "sqlserver", "sqlite"},
		Kinds:       []string{"query", "transaction"},
		Effects:     []string{"read_only", "exactly_once", "at_least_once", "at_most_once"},
		DeadLetters: []string{"rejected", "failed", "unknown", "too_many_deliveries", "job_id_reused", "result_id_taken", "stored_late"},
	}
}

// small is a file with nothing but what must be there.
const small = `
databases:
  rpa_db:
    type: postgres
    connection_string: postgres://runner@localhost/rpa
`

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "runner.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func load(t *testing.T, text string, environ ...string) (*config.Config, error) {
	t.Helper()
	return config.Load(config.Options{File: file(t, text), Environ: environ, Words: words()})
}

func loaded(t *testing.T, text string, environ ...string) *config.Config {
	t.Helper()
	cfg, err := load(t, text, environ...)
	require.NoError(t, err)
	return cfg
}

// faultsOf returns the faults of a configuration as lines.
func faultsOf(t *testing.T, text string, environ ...string) []string {
	t.Helper()
	cfg, err := load(t, text, environ...)
	require.Error(t, err)
	require.Nil(t, cfg)
	var faults *config.Faults
	require.ErrorAs(t, err, &faults)
	lines := make([]string, 0, len(faults.List))
	for _, f := range faults.List {
		lines = append(lines, f.String())
	}
	return lines
}
