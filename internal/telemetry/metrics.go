package telemetry

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// prefix is the first word of the names of all metrics.
const prefix = "dbrunner"

// The bounds of a scrape: how many run at the same time, and how long one may take.
const (
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// Metrics are all that Prometheus can read of a runner.
type Metrics struct {
	registry *prometheus.Registry
	jobs     *jobVectors
	words    Words
}

// Build describes the running build.
type Build struct{ Version, GoVersion, Runner string }

// NewMetrics returns the metrics of a runner. What is not counted job by job is read from the source at each scrape.
func NewMetrics(build Build, words Words, source Source) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), words: words}
	m.jobs = newJobVectors(m.registry)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: prefix, Name: "build_info", Help: "Version and name of the runner; always 1.",
		ConstLabels: prometheus.Labels{"version": build.Version, "goversion": build.GoVersion, "runner": build.Runner},
	})
	info.Set(1)
	m.registry.MustRegister(info, &collector{source}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Jobs returns the counters of one lane's jobs. What a kind has is looked up once for the lane, and not for each job.
func (m *Metrics) Jobs(lane Lane) *Jobs {
	j := &Jobs{lane: lane, words: &m.words, vectors: m.jobs, kinds: make(map[string]func() *kindMetrics, len(m.words.Kinds))}
	metrics := func(kind string) func() *kindMetrics {
		return sync.OnceValue(func() *kindMetrics { return j.kind(kind) })
	}
	for _, kind := range m.words.Kinds {
		j.kinds[kind] = metrics(kind)
	}
	for _, kind := range lane.Kinds {
		if made := j.kinds[kind]; made != nil {
			made()
		}
	}
	j.strange = metrics(other)
	return j
}

// Gatherer is where all metrics are read.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler answers scrapes.
func (m *Metrics) Handler(log *zap.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: zap.NewStdLog(log), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	})
}
