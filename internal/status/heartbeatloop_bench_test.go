//go:build unix

package status

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/jobs"
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
	started, interval := cpuTime(b), config.Default().Worker.HeartbeatInterval
	for b.Loop() {
		d.checkHealth(b.Context(), r.log)
		for _, l := range jobs.Lanes(nil) {
			_, err := bus.ReadLag(b.Context(), r.conn, d.Name, l.Name)
			require.NoError(b, err)
		}
		r.Publish(b.Context())
	}
	each := (cpuTime(b) - started) / time.Duration(b.N)
	b.ReportMetric(each.Seconds()*1000, "cpu-ms/op")
	b.ReportMetric(100*each.Seconds()/interval.Seconds(), "%-of-a-core")
}

// beating is the status of a runner with one database, connected and not running.
func beating(b *testing.B, engine, connection string) *Runner {
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
		require.NoError(b, conn.Close(context.Background()))
		require.NoError(b, manager.Close(opened))
	})
	require.NoError(b, topology.Manage(b.Context(), conn, manager.Topology(cfg)))
	r, err := New(Options{Config: cfg, Logger: zap.NewNop(), Conn: conn})
	require.NoError(b, err)
	db := opened[0]
	gate, err := worker.NewGate(worker.GateOptions{Database: db.Name, Prober: db.DB, Logger: zap.NewNop()})
	require.NoError(b, err)
	_, err = r.Add(DatabaseOptions{
		Name: db.Name, Config: db.Config, DB: db.DB, Migrations: db.Migrations, Gate: gate, Results: results.Of(conn, db.Name),
	})
	require.NoError(b, err)
	require.NoError(b, db.DB.Probe(b.Context()))
	r.Enter(contract.RunnerRunning)
	return r
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
