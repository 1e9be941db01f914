package telemetry

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"dbrunner/internal/report"
)

// other stands for every word that is in no closed set, so that messages cannot create series.
const other = "other"

// Words are the closed sets that jobs are counted by.
type Words struct {
	Kinds    []string
	Statuses []string // the first one is the one of success
	Codes    []string // of errors
	Reasons  []string // of dead letters
}

// The buckets, seconds. Work takes from a fraction of a millisecond to the longest time limit; the wait in the queue
// may take days.
var (
	workBuckets  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
	queueBuckets = []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400}
)

// jobVectors are the metrics that jobs move as they end.
type jobVectors struct {
	jobs        *prometheus.CounterVec
	duplicates  *prometheus.CounterVec
	recorded    *prometheus.CounterVec
	redelivered *prometheus.CounterVec
	retries     *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	execution   *prometheus.HistogramVec
	queue       *prometheus.HistogramVec
	total       *prometheus.HistogramVec
	calls       *prometheus.CounterVec
	called      *prometheus.HistogramVec
}

func newJobVectors(registry *prometheus.Registry) *jobVectors {
	made := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return made.NewCounterVec(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return made.NewHistogramVec(prometheus.HistogramOpts{Namespace: prefix, Name: name, Help: help, Buckets: buckets}, labels)
	}
	return &jobVectors{
		jobs: counter("jobs_total", "Jobs finished by this runner, by status and error code (empty: none); without duplicates.",
			"database", "queue", "kind", "status", "code"),
		duplicates: counter("job_duplicates_total", "Messages answered with an earlier message's result.",
			"database", "queue", "kind"),
		recorded: counter("ledger_duplicates_total", "Messages whose job already had a ledger row; nothing took effect again.",
			"database", "queue", "kind"),
		redelivered: counter("jobs_redelivered_total", "Jobs that needed more than one delivery.",
			"database", "queue", "kind"),
		retries: counter("job_retries_total", "Retries of jobs within one delivery.",
			"database", "queue", "kind"),
		deadLetters: counter("dead_letters_total", "Dead letters stored, by reason.",
			"database", "queue", "kind", "reason"),
		execution: histogram("job_execution_duration_seconds",
			"Job execution time, including the wait for a connection and retries.",
			workBuckets, "database", "queue", "kind", "status"),
		queue: histogram("job_queue_duration_seconds", "Time from the publish of a job to its arrival at this runner.",
			queueBuckets, "database", "queue", "kind"),
		total: histogram("job_duration_seconds", "Time from the publish of a job to the acknowledgement of its message.",
			queueBuckets, "database", "queue", "kind"),
		calls: counter("calls_total", "Calls finished by this runner, by the statement's name, status and error code; without duplicates.",
			"database", "queue", "call", "status", "code"),
		called: histogram("call_execution_duration_seconds",
			"Execution time of calls, by the statement's name; including the wait for a connection and retries.",
			workBuckets, "database", "queue", "call", "status"),
	}
}

// Lane is a lane of a database, and what its jobs can be.
type Lane struct {
	Database, Queue string   // empty: no queue's
	Kinds           []string // their metrics are there from the start
	Calls           []string // the names of the catalog; all others are one
}

// Jobs counts the jobs of one lane. It is safe for concurrent use and never blocks.
type Jobs struct {
	lane    Lane
	words   *Words
	vectors *jobVectors
	kinds   map[string]func() *kindMetrics // never written to after it was made
	strange func() *kindMetrics            // of all other kinds
	called  sync.Map                       // of an outcome: *callMetrics
}

// callOutcome is how a call ended.
type callOutcome struct{ call, status, code string }

// callMetrics are the metrics of calls with one outcome.
type callMetrics struct {
	finished   prometheus.Counter
	executions prometheus.Observer
}

// kindMetrics are the metrics of one kind, looked up once: counting a success makes nothing.
type kindMetrics struct {
	kind string

	succeeded  prometheus.Counter
	executions prometheus.Observer // of those that succeeded

	duplicates, recorded, redelivered, retries prometheus.Counter
	queue, total                               prometheus.Observer
	deadLetters                                map[string]prometheus.Counter // by reason

	// What most databases never have is made when it happens.
	failures sync.Map // of an outcome: prometheus.Counter
	failed   sync.Map // of a status: prometheus.Observer
}

// outcome is how a job can end that has not succeeded.
type outcome struct{ status, code string }

// kind makes the metrics of a kind.
func (j *Jobs) kind(kind string) *kindMetrics {
	v, database, queue := j.vectors, j.lane.Database, j.lane.Queue
	k := &kindMetrics{
		kind:        kind,
		succeeded:   v.jobs.WithLabelValues(database, queue, kind, j.words.success(), ""),
		executions:  v.execution.WithLabelValues(database, queue, kind, j.words.success()),
		duplicates:  v.duplicates.WithLabelValues(database, queue, kind),
		recorded:    v.recorded.WithLabelValues(database, queue, kind),
		redelivered: v.redelivered.WithLabelValues(database, queue, kind),
		retries:     v.retries.WithLabelValues(database, queue, kind),
		queue:       v.queue.WithLabelValues(database, queue, kind),
		total:       v.total.WithLabelValues(database, queue, kind),
		deadLetters: make(map[string]prometheus.Counter, len(j.words.Reasons)),
	}
	for _, reason := range j.words.Reasons { // there from the start, so that the first one is seen as an increase
		k.deadLetters[reason] = v.deadLetters.WithLabelValues(database, queue, kind, reason)
	}
	return k
}

func (w *Words) success() string { return w.Statuses[0] }

// oneOf returns the word if it is in the set.
func oneOf(word string, set []string) string {
	if slices.Contains(set, word) {
		return word
	}
	return other
}

// Finished counts the end of a job. How other deliveries left is counted by the lanes.
func (j *Jobs) Finished(e report.Event) {
	if e.Disposition != report.Settled {
		return
	}
	metrics := j.kinds[e.Kind]
	if metrics == nil {
		metrics = j.strange
	}
	k := metrics()
	if e.Recorded {
		k.recorded.Inc()
	}
	if deadLetters := k.deadLetters[e.DeadLetter]; deadLetters != nil {
		deadLetters.Inc()
	}
	if e.Deliveries > 1 {
		k.redelivered.Inc()
	}
	if e.Attempts > 1 {
		k.retries.Add(float64(e.Attempts - 1))
	}
	if e.Duplicate {
		k.duplicates.Inc()
		return
	}
	if e.Call != "" && e.Kind == kindCall {
		j.finishedCall(&e)
	}
	queued := max(e.Queued, 0) // the clocks of two machines differ
	k.queue.Observe(queued.Seconds())
	k.total.Observe((queued + e.SlotsInUse).Seconds())
	if string(e.Status) == j.words.success() && e.Code == "" {
		k.succeeded.Inc()
		k.executions.Observe(e.Ran.Seconds())
		return
	}
	j.failed(k, string(e.Status), e.Code).Observe(e.Ran.Seconds())
}

// kindCall is the kind of calls. Dry runs and approvals name statements, too.
const kindCall = "call"

// finishedCall counts the end of a call.
func (j *Jobs) finishedCall(e *report.Event) {
	o := callOutcome{oneOf(e.Call, j.lane.Calls), oneOf(string(e.Status), j.words.Statuses), e.Code}
	if o.code != "" {
		o.code = oneOf(o.code, j.words.Codes)
	}
	m := cached(&j.called, o, func() *callMetrics {
		return &callMetrics{
			finished:   j.vectors.calls.WithLabelValues(j.lane.Database, j.lane.Queue, o.call, o.status, o.code),
			executions: j.vectors.called.WithLabelValues(j.lane.Database, j.lane.Queue, o.call, o.status),
		}
	})
	m.finished.Inc()
	m.executions.Observe(e.Ran.Seconds())
}

// failed counts a job that did not simply succeed, and returns the observer of its execution time.
func (j *Jobs) failed(k *kindMetrics, status, code string) prometheus.Observer {
	status = oneOf(status, j.words.Statuses)
	if code != "" {
		code = oneOf(code, j.words.Codes)
	}
	cached(&k.failures, outcome{status, code}, func() prometheus.Counter {
		return j.vectors.jobs.WithLabelValues(j.lane.Database, j.lane.Queue, k.kind, status, code)
	}).Inc()
	return cached(&k.failed, status, func() prometheus.Observer {
		return j.vectors.execution.WithLabelValues(j.lane.Database, j.lane.Queue, k.kind, status)
	})
}

// cached returns what was made for a key, and makes it the first time.
func cached[K comparable, V any](m *sync.Map, key K, create func() V) V {
	if v, ok := m.Load(key); ok {
		return v.(V)
	}
	v, _ := m.LoadOrStore(key, create())
	return v.(V)
}
