package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/report"
	"dbrunner/internal/worker"
)

// instant is a bus, a database and a result store that take no time: what is left is the lane's own cost.
type instant struct {
	left    int // messages to deliver
	acked   atomic.Int64
	wanted  int64
	done    chan struct{}
	message worker.Message
}

func (i *instant) Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, worker.Message)) error {
	d := delivery.Delivery{Message: jobs.Message{Database: "db", Kind: "query", Timestamp: time.Now()}, Deliveries: 1}
	for i.left > 0 {
		n := <-credits
		for ; n > 0 && i.left > 0; n-- {
			i.left--
			d.Sequence++
			handle(d, i.message)
		}
	}
	<-ctx.Done()
	return nil
}

func (i *instant) Ack() error {
	if i.acked.Add(1) == i.wanted {
		close(i.done)
	}
	return nil
}
func (i *instant) AckConfirmed(context.Context) error { return i.Ack() }
func (i *instant) Nak(time.Duration) error            { return nil }
func (i *instant) InProgress(context.Context) error   { return nil }

// instantEnd runs, stores and answers.
type instantEnd struct{ out delivery.Outcome }

func (e *instantEnd) Run(_ context.Context, _ *delivery.Delivery, begin func() error) delivery.Outcome {
	if begin() != nil {
		return delivery.Outcome{Action: delivery.Undecided}
	}
	return e.out
}

func (e *instantEnd) Preemption(*delivery.Delivery) (canceled bool, expires time.Time) {
	return false, time.Time{}
}

func (e *instantEnd) Taken(context.Context, *delivery.Delivery, delivery.Outcome, []byte) delivery.Outcome {
	return e.out
}

func (e *instantEnd) Store(context.Context, string, []byte) (report.StoreVerdict, error) {
	return report.Stored, nil
}

func (e *instantEnd) StoredResult(context.Context, string) ([]byte, error) { return nil, nil }

func (e *instantEnd) HasResult(context.Context, string) (bool, error) { return false, nil }

func (e *instantEnd) Reply(string, []byte) error { return nil }

func (e *instantEnd) PublishDeadLetter(context.Context, *delivery.Delivery, *delivery.DeadLetter) error {
	return nil
}

// BenchmarkLane hands jobs through a lane of 60 slots, from the delivery to the acknowledgement.
func BenchmarkLane(b *testing.B) {
	bus := &instant{left: b.N, wanted: int64(b.N), done: make(chan struct{})}
	bus.message = bus
	end := &instantEnd{out: delivery.Outcome{
		Action: delivery.Settle, Status: contract.Succeeded, JobID: "a1", Store: &delivery.Publication{Key: "a1"},
	}}
	gate, err := worker.NewGate(worker.GateOptions{Database: "db", Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	lane, err := worker.New(worker.Options{
		Database: "db", Name: "work", Slots: 60, MaxSettling: 60, AckWait: 10 * time.Second, UnreachableGrace: time.Second,
		Intake: bus, Executor: end, Results: end, Outbox: end, Gate: gate, Quarantine: worker.NewQuarantine(), Logger: zap.NewNop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	work, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	running.Go(func() { _ = lane.Run(work, work) })
	<-bus.done
	b.StopTimer()
	stop()
	running.Wait()
}
