//go:build unix

package app

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
	"dbrunner/internal/worker"
)

// BenchmarkBeat is all that heartbeats and looks at a database cost at each interval (10 s): two messages, the lanes'
// lag, and one look. cpu-ms/op counts the NATS server as well, which is in this process, but not PostgreSQL; the last
// figure is the share of one core at the default intervals.
func BenchmarkBeat(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { beatBenchmark(b, "sqlite", filepath.Join(b.TempDir(), "shop.db")) })
	b.Run("postgres", func(b *testing.B) { beatBenchmark(b, "postgres", dbtest.Postgres(b)) })
}

func beatBenchmark(b *testing.B, engine, connection string) {
	r := beating(b, engine, connection)
	d := r.databases[0]
	require.NoError(b, d.DB.Probe(b.Context()))
	started, interval := cpuTime(b), config.Default().Worker.HeartbeatInterval
	for b.Loop() {
		d.checkHealth(b.Context(), r.log)
		for _, in := range d.intakes {
			_, err := bus.ReadLag(b.Context(), r.conn, d.Name, in.lane)
			require.NoError(b, err)
		}
		r.publishHeartbeat(b.Context())
		r.publishDatabase(b.Context(), d)
	}
	each := (cpuTime(b) - started) / time.Duration(b.N)
	b.ReportMetric(each.Seconds()*1000, "cpu-ms/op")
	b.ReportMetric(100*each.Seconds()/interval.Seconds(), "%-of-a-core")
}

// beating is a runner with one database, connected and not running.
func beating(b *testing.B, engine, connection string) *running {
	b.Helper()
	cfg := config.Default()
	cfg.Instance = "bench"
	cfg.NATS.URLs = []string{bustest.Server(b).ClientURL()}
	cfg.Databases["shop"] = cfg.Defaults.NewDatabase(engine, config.NewSecret(connection))
	require.NoError(b, cfg.Complete(manager.Words()))
	opened, err := manager.Open(cfg, nil)
	require.NoError(b, err)
	conn, err := bus.Connect(b.Context(), manager.BusOptions(cfg, zap.NewNop()))
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, closeConn(context.Background(), conn))
		require.NoError(b, manager.Close(opened))
	})
	require.NoError(b, ensureTopology(b.Context(), conn, cfg))
	r := &running{
		cfg: cfg, log: zap.NewNop(), conn: conn, databases: databasesOf(opened), startedAt: time.Now(), suspects: worker.NewQuarantine(),
	}
	require.NoError(b, r.connect())
	r.enter(stateRunning)
	return r
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
