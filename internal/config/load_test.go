package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

func TestDefaultsFillWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, small)
	require.Equal(t, "dbrunner", cfg.Namespace)
	require.Regexp(t, `^[A-Za-z0-9_-]{1,64}$`, cfg.Instance)
	require.Equal(t, []string{"nats://127.0.0.1:4222"}, cfg.NATS.URLs)
	require.Equal(t, "_INBOX_dbrunner", cfg.NATS.InboxPrefix)
	require.Equal(t, 24*time.Hour, cfg.Topology.Results.MaxAge)
	require.Equal(t, config.Size(512<<20), cfg.Topology.Jobs.MaxBytes)

	db := cfg.Databases["rpa_db"]
	require.Equal(t, "postgres", db.Type)
	require.Equal(t, "postgres://runner@localhost/rpa", db.ConnectionString.Reveal())
	require.Equal(t, 5, db.Pool.Min)
	require.Equal(t, 15, db.Pool.Max)
	require.Equal(t, 240, db.Slots)
	require.Equal(t, 60, db.BaseSlots())
	require.Equal(t, 48*time.Hour, db.Ledger.Retention)
	require.Equal(t, words().DeadLetters, db.DeadLetters)
}

func TestAFileSetsEveryTypeOfValue(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, `
namespace: flows
reply_prefixes: [flows-answers., other.answers.]
nats:
  urls: ["nats://a:4222", "tls://b:4222"]
  tls: {handshake_first: true}
topology:
  replicas: 3
  results: {max_count: 1_000, max_bytes: 64MiB, max_age: 1h30m}
databases:
  demo:
    type: sqlite
    connection_string: file:demo.db
    kinds: [query]
    dead_letters: []
    by_kind: {query: {timeout: 5s}}
    settings: {cache_size: 2000, mode: "fast"}
`)
	require.Equal(t, []string{"nats://a:4222", "tls://b:4222"}, cfg.NATS.URLs)
	require.True(t, cfg.NATS.TLS.HandshakeFirst)
	require.Equal(t, 3, cfg.Topology.Replicas)
	require.Equal(t, int64(1000), cfg.Topology.Results.MaxCount)
	require.Equal(t, config.Size(64<<20), cfg.Topology.Results.MaxBytes)
	require.Equal(t, 90*time.Minute, cfg.Topology.Results.MaxAge)
	require.Equal(t, []string{"flows-answers.", "other.answers."}, cfg.ReplyPrefixes)
	require.Equal(t, "_INBOX_flows", cfg.NATS.InboxPrefix)

	db := cfg.Databases["demo"]
	require.Equal(t, []string{"query"}, db.Kinds)
	require.Empty(t, db.DeadLetters)
	require.Equal(t, 5*time.Second, db.ByKind["query"].Timeout)
	require.Equal(t, map[string]string{"cache_size": "2000", "mode": "fast"}, db.Settings)
}

func TestDatabasesTakeTheDefaultsAndThenTheirOwn(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, `
defaults:
  pool: {min: 1, max: 3}
  timeout: 10s
  by_kind: {query: {timeout: 3s}, transaction: {timeout: 4s}}
databases:
  one: {type: sqlite, connection_string: a}
  two: {type: sqlite, connection_string: b, pool: {max: 4}, by_kind: {query: {max_timeout: 20s}}}
`)
	one, two := cfg.Databases["one"], cfg.Databases["two"]
	require.Equal(t, 3, one.Pool.Max)
	require.Equal(t, 48, one.Slots)
	require.Equal(t, 12, one.BaseSlots())
	require.Equal(t, 1, two.Pool.Min)
	require.Equal(t, 4, two.Pool.Max)
	require.Equal(t, 64, two.Slots)
	require.Equal(t, 10*time.Second, two.Timeout)
	require.Equal(t, &config.KindLimits{Timeout: 3 * time.Second, MaxTimeout: 20 * time.Second}, two.ByKind["query"])
	require.Equal(t, &config.KindLimits{Timeout: 3 * time.Second}, one.ByKind["query"], "databases share no memory")
}

func TestSlotsFillWhatTheBoundsLeave(t *testing.T) {
	t.Parallel()
	const databases = `
databases:
  one: {type: sqlite, connection_string: a, pool: {max: 10}}
  two: {type: sqlite, connection_string: b, pool: {max: 20}}
  three: {type: sqlite, connection_string: c, slots: 7}
`
	for _, test := range []struct {
		bounds   string
		one, two int
	}{
		{"", 160, 320},
		{"worker: {max_slots: 487}", 160, 320},
		{"worker: {max_slots: 486}", 150, 300},
		{"worker: {max_slots: 127}", 40, 80}, // as much as they hold at any time
		{"topology: {max_ack_pending: 200}", 160, 200},
	} {
		cfg := loaded(t, databases+test.bounds)
		require.Equal(t, test.one, cfg.Databases["one"].Slots, test.bounds)
		require.Equal(t, test.two, cfg.Databases["two"].Slots, test.bounds)
		require.Equal(t, 7, cfg.Databases["three"].BaseSlots())
	}
}

func TestSectionsWithNothingButCommentsAreEmpty(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, "nats:\n  # urls: []\ndefaults:\n  pool:\n"+small)
	require.Equal(t, 15, cfg.Databases["rpa_db"].Pool.Max)
}

func TestAProgramMakesAConfiguration(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Databases["demo"] = cfg.Defaults.NewDatabase("sqlite", config.NewSecret("file:demo.db"))
	require.NoError(t, cfg.Complete(words()))
	require.Equal(t, 240, cfg.Databases["demo"].Slots)

	cfg.Databases["demo"].Type = "oracle"
	cfg.Topology.Replicas = 2
	err := cfg.Complete(words())
	require.ErrorContains(t, err, "databases.demo.type: write one of postgres, sqlserver, sqlite")
	require.ErrorContains(t, err, "topology.replicas: write one of 1, 3, 5")
}

func TestAClientNeedsNoDatabases(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Options{Words: words(), Client: true})
	require.NoError(t, err)
	require.Empty(t, cfg.Databases)

	name := file(t, "databases: {a: {type: postgres, connection_string_file: /nowhere/at/all}, b: {}}")
	cfg, err = config.Load(config.Options{File: name, Words: words(), Client: true})
	require.NoError(t, err)
	require.Len(t, cfg.Databases, 2)

	_, err = config.Load(config.Options{File: name, Words: words()})
	require.ErrorContains(t, err, "no such file")
}

func TestAMissingFileIsAFault(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Options{File: "/nowhere/runner.yaml", Words: words()})
	var faults *config.Faults
	require.ErrorAs(t, err, &faults)
	require.ErrorContains(t, err, "the configuration file /nowhere/runner.yaml: no such file")
}

func TestALargeFileIsAFault(t *testing.T) {
	t.Parallel()
	_, err := load(t, strings.Repeat("#\n", 1<<20))
	require.ErrorContains(t, err, "larger than 1 MiB")
}

func TestSustainedRate(t *testing.T) {
	t.Parallel()
	r := config.ResultsStream{MinAge: 2 * time.Minute, MaxCount: 1200, MaxBytes: 1200}
	require.InDelta(t, 10, r.SustainedRate(0), 0.001)
	require.InDelta(t, 1, r.SustainedRate(10), 0.001)
}

// TestPoolMinFollows: connections kept open are at most those that may be open, if the number is not configured.
func TestPoolMinFollows(t *testing.T) {
	t.Parallel()
	const head = "databases: {a: {type: sqlite, connection_string: x.db"
	for name, c := range map[string]struct {
		text    string
		environ []string
		want    int
	}{
		"below the default":    {head + ", pool: {max: 2}}}", nil, 2},
		"in the defaults":      {"defaults: {pool: {max: 3}}\n" + head + "}}", nil, 3},
		"in the environment":   {head + "}}", []string{"A_POOL_MAX=2"}, 2},
		"above the default":    {head + ", pool: {max: 50}}}", nil, 5},
		"written as well":      {head + ", pool: {min: 1, max: 2}}}", nil, 1},
		"nothing of it at all": {head + "}}", nil, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, err := load(t, c.text, c.environ...)
			require.NoError(t, err)
			require.Equal(t, c.want, cfg.Databases["a"].Pool.Min)
		})
	}
	for _, text := range []string{head + ", pool: {min: 5, max: 2}}}", "defaults: {pool: {min: 4}}\n" + head + ", pool: {max: 2}}}"} {
		_, err := load(t, text)
		require.ErrorContains(t, err, "pool.min")
	}
}
