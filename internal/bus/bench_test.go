package bus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/report"
)

// slots is what a runner has by default for one database: four times fifteen connections.
const slots = 60

func benchSetup(b *testing.B, jobs int) (*bus.Conn, *nats.Conn, jetstream.JetStream) {
	b.Helper()
	node := bustest.Server(b)
	conn, err := bus.Connect(b.Context(), bus.Options{URL: node.ClientURL()})
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(b.Context()) })
	plain, js := bustest.Plain(b, node.ClientURL())
	require.NoError(b, topology.Manage(b.Context(), conn, bustest.Topology()))
	body := make([]byte, 256)
	for i := range jobs {
		_, err := js.PublishAsync("dbrunner.jobs.demo.query", body)
		require.NoError(b, err)
		if i%1000 == 999 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()
	return conn, plain, js
}

func perSecond(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkIntake takes and acknowledges jobs with 60 slots, one after the other.
func BenchmarkIntake(b *testing.B) {
	conn, _, _ := benchSetup(b, b.N)
	opened, err := intake.Open(b.Context(), conn, database, "work")
	require.NoError(b, err)
	credits := make(chan int, slots)
	credits <- slots
	ctx, cancel := newContext(b)
	done := make(chan error, 1)
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		done <- opened.Run(ctx, credits, func(m *intake.Message) {
			_ = m.Ack()
			if n++; n == b.N {
				cancel()
			}
			credits <- 1
		})
	}()
	require.NoError(b, <-done)
	b.StopTimer()
	perSecond(b)
}

// BenchmarkIntakeWorkers is the same with the work in 60 goroutines, as a runner has it.
func BenchmarkIntakeWorkers(b *testing.B) {
	conn, _, _ := benchSetup(b, b.N)
	opened, err := intake.Open(b.Context(), conn, database, "work")
	require.NoError(b, err)
	credits := make(chan int, slots)
	credits <- slots
	ctx, cancel := newContext(b)
	work := make(chan *intake.Message, slots)
	var n atomic.Int64
	for range slots {
		go func() {
			for m := range work {
				_ = m.Ack()
				if n.Add(1) == int64(b.N) {
					cancel()
				}
				credits <- 1
			}
		}()
	}
	b.ReportAllocs()
	b.ResetTimer()
	require.NoError(b, opened.Run(ctx, credits, func(m *intake.Message) { work <- m }))
	b.StopTimer()
	close(work)
	perSecond(b)
}

// BenchmarkLibraryConsume is the client library's own loop with the same 60 messages at most.
func BenchmarkLibraryConsume(b *testing.B) {
	_, _, js := benchSetup(b, b.N)
	consumer, err := js.Consumer(b.Context(), "DBRUNNER_JOBS_demo", "work")
	require.NoError(b, err)
	done := make(chan struct{})
	n := 0
	b.ReportAllocs()
	b.ResetTimer()
	loop, err := consumer.Consume(func(m jetstream.Msg) {
		_ = m.Ack()
		if n++; n == b.N {
			close(done)
		}
	}, jetstream.PullMaxMessages(slots))
	require.NoError(b, err)
	<-done
	b.StopTimer()
	loop.Stop()
	perSecond(b)
}

// BenchmarkRawPull is a hand-written loop on the client library: pull 60, take 60, again.
func BenchmarkRawPull(b *testing.B) {
	_, plain, _ := benchSetup(b, b.N)
	messages := make(chan *nats.Msg, 4096)
	inbox := plain.NewInbox()
	_, err := plain.ChanSubscribe(inbox, messages)
	require.NoError(b, err)
	request := fmt.Appendf(nil, `{"batch":%d,"expires":30000000000}`, slots)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		require.NoError(b, plain.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_demo.work", inbox, request))
		for range min(slots, b.N-n) {
			m := <-messages
			_ = plain.Publish(m.Reply, nil)
			n++
		}
	}
	b.StopTimer()
	perSecond(b)
}

// BenchmarkStore stores results of 512 bytes from 60 goroutines.
func BenchmarkStore(b *testing.B) {
	conn, _, _ := benchSetup(b, 0)
	demo := results.Of(conn, database)
	body := make([]byte, 512)
	var id atomic.Int64
	b.SetParallelism(slots / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			verdict, err := demo.Store(b.Context(), fmt.Sprintf("job%d", id.Add(1)), body)
			if err != nil || verdict != report.Stored {
				b.Errorf("%s, %v", verdict, err)
			}
		}
	})
	b.StopTimer()
	perSecond(b)
}

// BenchmarkHasResult looks for results that are not there from eight goroutines, BenchmarkStoredResult reads them.
func BenchmarkHasResult(b *testing.B) {
	benchLook(b, func(ctx context.Context, r *results.Results, id string) error {
		_, err := r.HasResult(ctx, id)
		return err
	})
}

func BenchmarkStoredResult(b *testing.B) {
	benchLook(b, func(ctx context.Context, r *results.Results, id string) error {
		_, err := r.StoredResult(ctx, id)
		return err
	})
}

func benchLook(b *testing.B, look func(context.Context, *results.Results, string) error) {
	b.Helper()
	conn, _, _ := benchSetup(b, 0)
	demo := results.Of(conn, database)
	var id atomic.Int64
	b.SetParallelism(4)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := look(b.Context(), demo, fmt.Sprintf("job%d", id.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	perSecond(b)
}

// BenchmarkLibraryStore is the same with the library's synchronous publish.
func BenchmarkLibraryStore(b *testing.B) {
	_, _, js := benchSetup(b, 0)
	body := make([]byte, 512)
	var id atomic.Int64
	b.SetParallelism(slots / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := js.Publish(b.Context(), fmt.Sprintf("dbrunner.store.demo.job%d", id.Add(1)), body,
				jetstream.WithExpectLastSequencePerSubject(0))
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	perSecond(b)
}

// BenchmarkLibraryStoreAsync is the library's asynchronous publish, the most that one goroutine gets out of it.
func BenchmarkLibraryStoreAsync(b *testing.B) {
	_, _, js := benchSetup(b, 0)
	body := make([]byte, 512)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		_, err := js.PublishAsync(fmt.Sprintf("dbrunner.store.demo.job%d", i), body,
			jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithStallWait(1e9))
		require.NoError(b, err)
	}
	<-js.PublishAsyncComplete()
	b.StopTimer()
	perSecond(b)
}

func newContext(b *testing.B) (context.Context, context.CancelFunc) {
	b.Helper()
	return context.WithCancel(context.Background())
}
