package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// BenchmarkWholeWay is one job from its publish to its stored result, many concurrently: NATS, the runner and the
// publisher share the machine.
func BenchmarkWholeWay(b *testing.B) {
	jobs := map[string]string{
		"query":       `{"id":"b%d","sql":"SELECT 1 AS n"}`,
		"transaction": `{"id":"b%d","statements":[{"sql":"INSERT INTO effects (n) VALUES (1)"}]}`,
	}
	for _, engine := range manager.Engines() {
		for kind, body := range jobs {
			b.Run(engine+"/"+kind, func(b *testing.B) { wholeWayBenchmark(b, engine, kind, body) })
		}
	}
}

func wholeWayBenchmark(b *testing.B, engine, kind, body string) {
	connection := b.TempDir() + "/bench.db"
	if engine == "postgres" {
		connection = dbtest.Postgres(b)
	}
	node := bustest.Server(b)
	nc, js := bustest.Plain(b, node.ClientURL())
	w := &world{t: b, node: node, nc: nc, js: js}
	w.start(w.config("bench", withDatabase("bench", engine, connection, func(d *config.Database) { d.Pool.Max = 8 })))
	require.Equal(b, "succeeded", w.do("bench", "transaction", "create", `"statements":[{"sql":"CREATE TABLE effects (n INTEGER)"}]`).Status)
	results := make(chan *nats.Msg, 1<<16)
	sub, err := nc.ChanSubscribe("dbrunner.results.bench.*", results)
	require.NoError(b, err)
	defer func() { require.NoError(b, sub.Unsubscribe()) }()
	subject := "dbrunner.jobs.bench." + kind
	b.ResetTimer()
	start := time.Now()
	for i, out := 0, 0; out < b.N; {
		for ; i < b.N && i-out < 512; i++ {
			_, err := js.PublishAsync(subject, fmt.Appendf(nil, body, i))
			require.NoError(b, err)
		}
		<-results
		out++
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "jobs/s")
}
