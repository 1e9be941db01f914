package ui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/ui"
)

const (
	largeDatabases = 100
	largeRunners   = 16
	largeDead      = 100_000
	largeResults   = 2_000_000
	beatEvery      = 10 * time.Second // of each runner
	updateEvery    = 2 * time.Second  // of a tab
)

// large is what a fleet of 16 runners with 100 databases reports, without the runners.
type large struct {
	*world
	page *ui.Server
	beat int
}

func newLarge(b *testing.B) *large {
	b.Helper()
	node := bustest.Server(b)
	nc, js := bustest.Plain(b, node.ClientURL())
	f := &large{world: &world{t: b, node: node, nc: nc, js: js}}
	for _, c := range []jetstream.StreamConfig{
		{Name: "DBRUNNER_HEALTH", Subjects: []string{"dbrunner.health.>"}, MaxMsgsPerSubject: 1},
		{Name: "DBRUNNER_DEAD", Subjects: []string{"dbrunner.dead.>"}},
		{Name: "DBRUNNER_RESULTS_db00", Subjects: []string{"dbrunner.results.db00.*"}},
	} {
		c.AllowDirect, c.Storage = true, jetstream.MemoryStorage
		_, err := js.CreateStream(b.Context(), c)
		require.NoError(b, err)
	}
	for range largeRunners {
		f.heartbeat()
	}
	f.page = f.server()
	return f
}

func (f *large) server() *ui.Server {
	f.t.Helper()
	s, err := ui.New(ui.Options{NATS: f.nc, By: "ola"})
	require.NoError(f.t, err)
	return s
}

func (f *large) publish(subject string, value any, header nats.Header) {
	f.t.Helper()
	text, err := json.Marshal(value)
	require.NoError(f.t, err)
	_, err = f.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: text, Header: header}, jetstream.WithStallWait(time.Minute))
	require.NoError(f.t, err)
}

// flush waits until everything is stored.
func (f *large) flush() {
	f.t.Helper()
	select {
	case <-f.js.PublishAsyncComplete():
	case <-time.After(10 * time.Minute):
		require.Fail(f.t, "not stored")
	}
}

// heartbeat publishes what the next runner reports: one of ten databases is not healthy.
func (f *large) heartbeat() {
	f.t.Helper()
	f.beat++
	runner, now := fmt.Sprintf("node%02d-1", f.beat%largeRunners), time.Now().UTC()
	h := contract.RunnerHeartbeat{Version: 1, Instance: runner, Process: runner, Build: "1.4.0", State: contract.RunnerRunning, StartedAt: now, At: now, Interval: beatEvery.Seconds()}
	for i := range largeDatabases {
		name := fmt.Sprintf("db%02d", i)
		status := contract.DatabaseStatus{Name: name, Engine: "postgres", Verdict: contract.Healthy, Condition: contract.Condition{State: contract.DatabaseUp, Since: &now}}
		for _, lane := range []string{"work", "migration", "health"} {
			status.Lanes = append(status.Lanes, contract.LaneStatus{Name: lane, Slots: 16, SlotsInUse: f.beat % 3, Settled: map[contract.Status]int64{contract.Succeeded: int64(f.beat * i)}})
		}
		health := &contract.Health{Verdict: contract.Healthy}
		if i%10 == 0 {
			status.State, status.Reason, health.Verdict, health.Reasons = contract.DatabaseDown, "refused", contract.Unhealthy, []string{"connection: refused"}
		}
		h.Databases = append(h.Databases, status)
		f.publish("dbrunner.health.database."+name+"."+runner, contract.DatabaseHeartbeat{
			Version: 1, Database: name, Engine: "postgres", Instance: runner, Process: runner, RunnerState: contract.RunnerRunning, At: now, Interval: beatEvery.Seconds(),
			Condition: status.Condition, CheckedAt: &now, Health: health,
		}, nil)
	}
	f.publish("dbrunner.health.runner."+runner, h, nil)
	f.flush()
}

// fill stores many dead letters and results.
func (f *large) fill() {
	f.t.Helper()
	for i := range largeDead {
		id := fmt.Sprintf("job%d", i)
		f.publish(fmt.Sprintf("dbrunner.dead.db%02d.query.s%d_%s", i%largeDatabases, i, id), map[string]string{"id": id, "sql": "SELECT 1"}, nats.Header{
			contract.HeaderJobID: {id}, contract.HeaderReason: {"failed"}, contract.HeaderCode: {fmt.Sprintf("code_%d", i%7)}, contract.HeaderMessage: {"it failed"},
		})
	}
	for i := range largeResults {
		f.publish(fmt.Sprintf("dbrunner.results.db00.job%d", i), map[string]any{
			"version": 1, "job_id": fmt.Sprintf("job%d", i), "kind": "query", "status": "succeeded", "runner": "node01-1", "finished_at": time.Now().UTC(),
		}, nil)
	}
	f.flush()
}

// show loads a page, which is complete.
func (f *large) show(path string) {
	f.t.Helper()
	out := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "localhost"
	f.page.Handler().ServeHTTP(out, r)
	require.Equal(f.t, http.StatusOK, out.Code)
	require.NotContains(f.t, out.Body.String(), "No answer within")
}

// BenchmarkPage loads pages of a large fleet, whose streams have many dead letters and results.
func BenchmarkPage(b *testing.B) {
	f := newLarge(b)
	f.pages(b, "few")
	f.fill()
	f.pages(b, "many")
}

func (f *large) pages(b *testing.B, name string) {
	b.Helper()
	for _, path := range []string{"/", "/db/db00", "/db/db00/jobs", "/dead", "/dead?list=1"} {
		f.page = f.server()
		first := time.Now()
		f.show(path)
		took := time.Since(first)
		b.Run(name+path, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				f.page.Stale()
				f.show(path)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(took.Milliseconds()), "ms-first")
		})
	}
}

// BenchmarkPageFirst loads the first page of a process, which reads all heartbeats.
func BenchmarkPageFirst(b *testing.B) {
	f := newLarge(b)
	for b.Loop() {
		f.page = f.server()
		f.show("/")
	}
}

// BenchmarkPageStream is an update of a tab of Now, every two seconds: in between, every fifth runner has sent its heartbeats. It
// reports the share of a core that the process takes for it, the NATS server in it included.
func BenchmarkPageStream(b *testing.B) {
	f := newLarge(b)
	next := f.page.Tab("/")
	require.Greater(b, next(b.Context()), 10_000)
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		for range largeRunners * updateEvery / beatEvery {
			f.heartbeat()
		}
		f.page.Stale()
		before := cpuTime(b)
		b.StartTimer()
		next(context.Background())
		b.StopTimer()
		spent += cpuTime(b) - before
		b.StartTimer()
	}
	b.ReportMetric(100*spent.Seconds()/float64(b.N)/updateEvery.Seconds(), "%core")
}

// cpuTime is what the process has taken so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
