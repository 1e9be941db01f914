package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

func TestTheEnvironmentAlone(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "dsn")
	require.NoError(t, os.WriteFile(secret, []byte("postgres://from-a-file\n"), 0o600))
	cfg, err := config.Load(config.Options{Words: words(), Environ: []string{
		"PATH=/bin", "HOME=",
		"RUNNER_NAMESPACE=flows",
		"RUNNER_NATS_URLS=nats://a:4222, nats://b:4222",
		"RUNNER_NATS_TLS_HANDSHAKE_FIRST=true",
		"RUNNER_TOPOLOGY_RESULTS_MAX_AGE=12h",
		"RUNNER_TOPOLOGY_RESULTS_MAX_BYTES=1GiB",
		"RUNNER_DEFAULTS_POOL_MIN=2",
		"RUNNER_DATABASES=rpa_db, other-db",
		"RPA_DB_TYPE=postgres", "RPA_DB_CONNECTION_STRING_FILE=" + secret, "RPA_DB_POOL_MAX=9",
		"RPA_DB_BY_KIND_QUERY_TIMEOUT=7s", "RPA_DB_EFFECTS=read_only,exactly_once", "RPA_DB_SETTINGS=a=1, b=x=y",
		"OTHER_DB_TYPE=sqlite", "OTHER_DB_CONNECTION_STRING=file:other.db", "OTHER_DB_LEDGER_MODE=off",
	}})
	require.NoError(t, err)
	require.Equal(t, "flows", cfg.Namespace)
	require.Equal(t, []string{"nats://a:4222", "nats://b:4222"}, cfg.NATS.URLs)
	require.True(t, cfg.NATS.TLS.HandshakeFirst)
	require.Equal(t, 12*time.Hour, cfg.Topology.Results.MaxAge)
	require.Equal(t, config.Size(1<<30), cfg.Topology.Results.MaxBytes)

	rpa, other := cfg.Databases["rpa_db"], cfg.Databases["other-db"]
	require.Equal(t, "postgres://from-a-file", rpa.ConnectionString.Reveal())
	require.Equal(t, config.Pool{
		Min: 2, Max: 9, MaxLifetime: time.Hour, LifetimeJitter: 6 * time.Minute, MaxIdleTime: 30 * time.Minute,
		ConnectTimeout: 10 * time.Second, PingAfterIdle: 30 * time.Second,
	}, rpa.Pool)
	require.Equal(t, 7*time.Second, rpa.ByKind["query"].Timeout)
	require.Equal(t, []string{"read_only", "exactly_once"}, rpa.Effects)
	require.Equal(t, map[string]string{"a": "1", "b": "x=y"}, rpa.Settings)
	require.Equal(t, "file:other.db", other.ConnectionString.Reveal())
	require.False(t, other.HasLedger())
}

func TestTheEnvironmentGoesBeforeTheFile(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, small+"    pool: {max: 7}\nnats:\n", "RPA_DB_POOL_MAX=8", "RPA_DB_CONNECTION_STRING=other",
		"RUNNER_NATS_DOMAIN=leaf", "RUNNER_DATABASES=more", "MORE_TYPE=sqlite", "MORE_CONNECTION_STRING=file:x")
	require.Equal(t, 8, cfg.Databases["rpa_db"].Pool.Max)
	require.Equal(t, "other", cfg.Databases["rpa_db"].ConnectionString.Reveal())
	require.Equal(t, "leaf", cfg.NATS.Domain)
	require.Len(t, cfg.Databases, 2)
}

func TestASecretFromTheEnvironmentGoesBeforeBothFormsInTheFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(name, []byte("from the file\r\n"), 0o600))

	cfg := loaded(t, small, "RPA_DB_CONNECTION_STRING_FILE="+name)
	require.Equal(t, "from the file", cfg.Databases["rpa_db"].ConnectionString.Reveal())

	cfg = loaded(t, "databases: {rpa_db: {type: sqlite, connection_string_file: /nowhere}}", "RPA_DB_CONNECTION_STRING=direct")
	require.Equal(t, "direct", cfg.Databases["rpa_db"].ConnectionString.Reveal())

	lines := faultsOf(t, small, "RPA_DB_CONNECTION_STRING_FILE="+name, "RPA_DB_CONNECTION_STRING=direct")
	require.Equal(t, []string{"databases.rpa_db.connection_string (RPA_DB_CONNECTION_STRING): both this key and " +
		"connection_string_file are set; remove one of them"}, lines)
}

func TestForeignVariablesAreNobodysFault(t *testing.T) {
	t.Parallel()
	loaded(t, small,
		"RUNNER_OS=Linux", "RUNNER_NAME=GitHub Actions 1", "RUNNER_TEMP=/tmp", "RUNNER_TOOL_CACHE=/opt", "RUNNER_ARCH=X64",
		"RUNNER_SERVICE_HOST=10.0.0.1", "RUNNER_PORT=tcp://10.0.0.1:1", "RUNNER_NATS_SERVICE_HOST=10.0.0.1",
		"RUNNER_NATS_SERVICE_PORT_CLIENT=4222", "RUNNER_NATS_PORT_4222_TCP_ADDR=10.0.0.1", "RUNNER_NATS_PORT=tcp://x",
		"RPA_DB_HOST=localhost", "RPA_DB_NAME=x", "RUNNER_TEST_POSTGRES_URL=x", "RUNNER_CONFIG=x", "broken")
}
