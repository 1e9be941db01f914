package telemetry_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"dbrunner/contract"
	"dbrunner/internal/report"
	"dbrunner/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// still is a runner of which everything is known.
type still telemetry.Snapshot

func (s still) Snapshot() telemetry.Snapshot { return telemetry.Snapshot(s) }

func busy() still {
	now := time.Now()
	return still{
		Ready: true, NATS: telemetry.Link{Connected: true, Reconnects: 2, Denied: 1, DeniedReplies: 3},
		Dead: &telemetry.DeadLetters{Kept: 3, Evicted: 1, At: now},
		Databases: []telemetry.Database{{
			Name: "shop", Engine: "postgres", Up: true, Purged: 4,
			Pool:   report.Pool{Max: 8, Idle: 3, InUse: 2, Waiting: 1, Acquires: 9, CanceledAcquires: 1, AcquireWait: 1500 * time.Millisecond},
			Ledger: &report.Sweep{Deleted: 5, At: now},
			Lanes: []report.Lane{{
				Name: "work", Slots: 32, SlotsInUse: 7, Settling: 2, Ended: map[string]int64{"settled": 6, "drained": 1},
				LeasesLost: 1, RepliesLost: 2, DeadLettersLost: 3, Taken: 4, Panics: 5,
			}},
			Queue: &telemetry.Queue{
				Lanes: []telemetry.LaneQueue{{Name: "work", Lag: report.Lag{Pending: 12, AckPending: 7}}}, Oldest: []telemetry.OldestJob{{Stored: now.Add(-time.Minute)}}, ResultsUsed: 0.25, At: now,
			},
		}},
	}
}

func words() telemetry.Words {
	return telemetry.Words{
		Kinds: []string{"query", "transaction"}, Statuses: []string{"succeeded", "failed"},
		Codes: []string{"timeout"}, Reasons: []string{"failed"},
	}
}

// shop is the lane of a queue, or of none.
func shop(queue string) telemetry.Lane {
	return telemetry.Lane{Database: "shop", Queue: queue, Kinds: []string{"query", "transaction"}, Calls: []string{"pay"}}
}

func setup(source telemetry.Source) *telemetry.Metrics {
	return telemetry.NewMetrics(telemetry.Build{Version: "1.2.3", GoVersion: "go1", Runner: "r1"}, words(), source)
}

// lint reads the page as a scraper does and checks it with what promtool has inside.
func lint(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	problems, err := testutil.GatherAndLint(m.Gatherer())
	require.NoError(t, err)
	require.Empty(t, problems)
	families, err := m.Gatherer().Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&text, f)
		require.NoError(t, err)
	}
	problems, err = promlint.New(strings.NewReader(text.String())).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	return text.String()
}

// Names, units and texts are by the conventions, with and without jobs, and while nothing is known yet.
func TestThePagePassesTheLinter(t *testing.T) {
	t.Parallel()
	lint(t, setup(still{}))
	m := setup(busy())
	jobs := m.Jobs(shop(""))
	for _, kind := range []string{"query", "transaction", "unheard of"} {
		for _, code := range []string{"", "timeout", "unheard of"} {
			jobs.Finished(report.Event{Disposition: report.Settled, Kind: kind, Status: "failed", Code: code, DeadLetter: "failed", Recorded: true, Deliveries: 2, Attempts: 3})
		}
	}
	jobs.Finished(report.Event{Disposition: report.Settled, Kind: "call", Call: "pay", Status: "succeeded", Ran: time.Second})
	jobs.Finished(report.Event{Disposition: report.Settled, Kind: "call", Call: "pay", Status: "succeeded", Duplicate: true})
	page := lint(t, m)
	for _, line := range []string{
		`dbrunner_pool_connections{database="shop",state="in_use"} 2`,
		`dbrunner_pool_acquire_wait_seconds_total{database="shop"} 1.5`,
		`dbrunner_deliveries_total{database="shop",disposition="drained",lane="work"} 1`,
		`dbrunner_lane_slots_in_use{database="shop",lane="work"} 7`,
		`dbrunner_queue_waiting{database="shop",lane="work"} 12`,
		`dbrunner_queue_oldest_age_seconds{database="shop"} 60`,
		`dbrunner_nats_reconnects_total 2`,
		`dbrunner_dead_letters_kept 3`,
		`dbrunner_build_info{goversion="go1",runner="r1",version="1.2.3"} 1`,
		`dbrunner_calls_total{call="pay",code="",database="shop",queue="",status="succeeded"} 1`,
		`dbrunner_call_execution_duration_seconds_count{call="pay",database="shop",queue="",status="succeeded"} 1`,
		`dbrunner_job_retries_total{database="shop",kind="query",queue=""} 6`,
	} {
		require.Contains(t, page, line)
	}
}

// Messages cannot create series: not by kinds, codes, statuses or reasons.
func TestWordsFromOutsideMakeNoSeries(t *testing.T) {
	t.Parallel()
	m := setup(still{})
	jobs := m.Jobs(shop(""))
	count := func() int {
		n, err := testutil.GatherAndCount(m.Gatherer(), "dbrunner_jobs_total", "dbrunner_job_duration_seconds",
			"dbrunner_job_execution_duration_seconds", "dbrunner_dead_letters_total", "dbrunner_calls_total", "dbrunner_call_execution_duration_seconds")
		require.NoError(t, err)
		return n
	}
	end := func(i int) {
		word := fmt.Sprint("word", i)
		jobs.Finished(report.Event{Disposition: report.Settled, Kind: word, Status: contract.Status(word), Code: word, DeadLetter: word})
		jobs.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "failed", Code: word})
		jobs.Finished(report.Event{Disposition: report.Settled, Kind: "call", Call: word, Status: contract.Status(word), Code: word})
	}
	end(0)
	before := count()
	for i := range 1000 {
		end(i)
	}
	require.Equal(t, before, count())
	requireSeries(t, m, "dbrunner_calls_total", map[string]float64{"call=other,code=other,queue=,status=other": 1001})
	requireSeries(t, m, "dbrunner_jobs_total", map[string]float64{
		"code=,kind=other,queue=,status=succeeded": 0, "code=,kind=query,queue=,status=succeeded": 0, "code=,kind=transaction,queue=,status=succeeded": 0,
		"code=other,kind=other,queue=,status=other": 2002, "code=other,kind=query,queue=,status=failed": 1001,
	})
}

// requireSeries checks all series of a counter, by their labels without the database.
func requireSeries(t *testing.T, m *telemetry.Metrics, name string, want map[string]float64) {
	t.Helper()
	families, err := m.Gatherer().Gather()
	require.NoError(t, err)
	have := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, metric := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			delete(labels, "database")
			var parts []string
			for _, label := range slices.Sorted(maps.Keys(labels)) {
				parts = append(parts, label+"="+labels[label])
			}
			have[strings.Join(parts, ",")] = metric.GetCounter().GetValue()
		}
	}
	require.Equal(t, want, have)
}

// Each lane's jobs count under the queue of that lane, whatever they are. A lane has the series of its own kinds from the start, and no others: so
// the configuration bounds them.
func TestALaneCountsUnderItsQueue(t *testing.T) {
	t.Parallel()
	m := setup(still{})
	bulk := shop("bulk")
	bulk.Kinds = []string{"query"}
	none, queued := m.Jobs(shop("")), m.Jobs(bulk)
	requireSeries(t, m, "dbrunner_jobs_total", map[string]float64{
		"code=,kind=query,queue=,status=succeeded": 0, "code=,kind=transaction,queue=,status=succeeded": 0, "code=,kind=query,queue=bulk,status=succeeded": 0,
	})
	for range 2 {
		queued.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "succeeded"})
	}
	none.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "succeeded"})
	queued.Finished(report.Event{Disposition: report.Settled, Kind: "transaction", Status: "failed", Code: "timeout", DeadLetter: "failed"})
	queued.Finished(report.Event{Disposition: report.Settled, Kind: "call", Call: "pay", Status: "succeeded"})
	requireSeries(t, m, "dbrunner_jobs_total", map[string]float64{
		"code=,kind=query,queue=,status=succeeded": 1, "code=,kind=transaction,queue=,status=succeeded": 0,
		"code=,kind=query,queue=bulk,status=succeeded": 2, "code=,kind=transaction,queue=bulk,status=succeeded": 0,
		"code=timeout,kind=transaction,queue=bulk,status=failed": 1, "code=,kind=other,queue=bulk,status=succeeded": 1,
	})
	requireSeries(t, m, "dbrunner_dead_letters_total", map[string]float64{
		"kind=query,queue=,reason=failed": 0, "kind=transaction,queue=,reason=failed": 0, "kind=query,queue=bulk,reason=failed": 0,
		"kind=transaction,queue=bulk,reason=failed": 1, "kind=other,queue=bulk,reason=failed": 0,
	})
	requireSeries(t, m, "dbrunner_calls_total", map[string]float64{"call=pay,code=,queue=bulk,status=succeeded": 1})
}

// Counting from many goroutines loses nothing, and a duplicate is no job.
func TestCountingIsExact(t *testing.T) {
	t.Parallel()
	m := setup(busy())
	jobs := m.Jobs(shop(""))
	const each = 500
	var counters sync.WaitGroup
	for range 4 {
		counters.Go(func() {
			for range each {
				jobs.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "succeeded", Queued: -time.Second, SlotsInUse: time.Millisecond})
				jobs.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "failed", Code: "timeout"})
				jobs.Finished(report.Event{Disposition: report.Settled, Kind: "query", Status: "succeeded", Duplicate: true})
				jobs.Finished(report.Event{Disposition: report.Settled, Kind: "brand new", Status: "succeeded"})
			}
		})
	}
	counters.Go(func() {
		for range 20 {
			if _, err := m.Gatherer().Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	counters.Wait()
	requireSeries(t, m, "dbrunner_jobs_total", map[string]float64{
		"code=,kind=query,queue=,status=succeeded": 4 * each, "code=timeout,kind=query,queue=,status=failed": 4 * each,
		"code=,kind=other,queue=,status=succeeded": 4 * each, "code=,kind=transaction,queue=,status=succeeded": 0,
	})
	requireSeries(t, m, "dbrunner_job_duplicates_total", map[string]float64{"kind=query,queue=": 4 * each, "kind=other,queue=": 0, "kind=transaction,queue=": 0})
}

// BenchmarkEnded counts the end of a job that has succeeded.
func BenchmarkEnded(b *testing.B) {
	jobs := setup(still{}).Jobs(shop(""))
	b.ReportAllocs()
	for b.Loop() {
		end := report.Event{Disposition: report.Settled, Kind: "query", Status: "succeeded", Queued: time.Millisecond, Ran: time.Millisecond, SlotsInUse: time.Millisecond}
		jobs.Finished(end)
	}
}
