package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dbrunner/internal/report"
)

// family is a metric that is read from a part of a snapshot.
type family[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) float64
}

func gauge[T any](name, help string, value func(*T) float64, labels ...string) family[T] {
	return newFamily(name, help, prometheus.GaugeValue, value, labels)
}

func counter[T any](name, help string, value func(*T) float64, labels ...string) family[T] {
	return newFamily(name, help, prometheus.CounterValue, value, labels)
}

func newFamily[T any](name, help string, kind prometheus.ValueType, value func(*T) float64, labels []string) family[T] {
	desc := prometheus.NewDesc(prometheus.BuildFQName(prefix, "", name), help, labels, nil)
	return family[T]{desc: desc, kind: kind, value: value}
}

// emit sends the values that all families have for a part.
func emit[T any](ch chan<- prometheus.Metric, families []family[T], part *T, labels ...string) {
	for i := range families {
		f := &families[i]
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(part), labels...)
	}
}

func describe[T any](ch chan<- *prometheus.Desc, families []family[T]) {
	for i := range families {
		ch <- families[i].desc
	}
}

// collector reads a snapshot at each scrape.
type collector struct {
	source    Source
	runner    []family[Snapshot]
	dead      []family[DeadLetters]
	databases []family[Database]
	ledgers   []family[report.Sweep]
	lanes     []family[report.Lane]
	queues    []family[Queue]
	waiting   []family[LaneQueue]

	info, connections, ended, oldest, swept *prometheus.Desc
}

func newCollector(source Source) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(prefix, "", name), help, labels, nil)
	}
	return &collector{
		source: source, runner: runnerFamilies(), dead: deadFamilies(), databases: databaseFamilies(),
		ledgers: ledgerFamilies(), lanes: laneFamilies(), queues: queueFamilies(), waiting: laneQueueFamilies(),
		info:        desc("database_info", "Databases of this runner; always 1.", "database", "engine"),
		connections: desc("pool_connections", "Database connections, by state.", "database", "state"),
		ended:       desc("deliveries_total", "Deliveries, by disposition.", "database", "lane", "disposition"),
		oldest: desc("queue_oldest_age_seconds", "Age of the oldest job in the database's queue, including ack pending jobs; 0 if the queue is empty.",
			"database"),
		swept: desc("ledger_swept_timestamp_seconds", "Time of the last ledger cleanup.", "database"),
	}
}

// Describe sends what Collect may send.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	describe(ch, c.runner)
	describe(ch, c.dead)
	describe(ch, c.databases)
	describe(ch, c.ledgers)
	describe(ch, c.lanes)
	describe(ch, c.queues)
	describe(ch, c.waiting)
	for _, d := range []*prometheus.Desc{c.info, c.connections, c.ended, c.oldest, c.swept} {
		ch <- d
	}
}

// Collect sends the runner's state.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	emit(ch, c.runner, &s)
	if s.Dead != nil {
		emit(ch, c.dead, s.Dead)
	}
	for i := range s.Databases {
		c.database(ch, &s.Databases[i])
	}
}

func (c *collector) database(ch chan<- prometheus.Metric, d *Database) {
	emit(ch, c.databases, d, d.Name)
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{d.Name}, labels...)...)
	}
	send(c.info, 1, d.Engine)
	send(c.connections, float64(d.Pool.Idle), "idle")
	send(c.connections, float64(d.Pool.InUse), "in_use")
	if d.Ledger != nil {
		emit(ch, c.ledgers, d.Ledger, d.Name)
		if at := d.Ledger.At; !at.IsZero() {
			send(c.swept, float64(at.UnixMilli())/1000)
		}
	}
	for i := range d.Lanes {
		l := &d.Lanes[i]
		emit(ch, c.lanes, l, d.Name, l.Name)
		for end, n := range l.Ended {
			ch <- prometheus.MustNewConstMetric(c.ended, prometheus.CounterValue, float64(n), d.Name, l.Name, end)
		}
	}
	if d.Queue != nil {
		send(c.oldest, d.Queue.oldestAge())
		emit(ch, c.queues, d.Queue, d.Name)
		for i := range d.Queue.Lanes {
			emit(ch, c.waiting, &d.Queue.Lanes[i], d.Name, d.Queue.Lanes[i].Name)
		}
	}
}

// oldestAge is how old the oldest job is by now if it is still there, in seconds.
func (q *Queue) oldestAge() float64 {
	if q.Oldest.IsZero() {
		return 0
	}
	return max(time.Since(q.Oldest).Seconds(), 0)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
