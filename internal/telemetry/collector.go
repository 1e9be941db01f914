package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dbrunner/internal/report"
)

// collector reads a snapshot at each scrape.
type collector struct{ source Source }

// Describe sends nothing: which metrics there are depends on the snapshot.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the runner's state.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	p := part{ch: ch}
	p.gauge("ready", "Whether jobs can run here: 1, or 0 while the runner starts or drains, or if no lane can run jobs.", truth(s.Ready))
	p.gauge("draining", "Whether the runner is draining.", truth(s.Draining))
	p.gauge("nats_connected", "Whether the runner is connected to NATS.", truth(s.NATS.Connected))
	p.counter("nats_reconnects_total", "Reconnections to NATS.", float64(s.NATS.Reconnects))
	p.gauge("nats_denied_subjects", "Subjects that NATS refused because the runner lacks permission.", float64(s.NATS.Denied))
	p.counter("nats_denied_replies_total", "Answers that NATS refused to publish to the requester's subject.", float64(s.NATS.DeniedReplies))
	if d := s.Dead; d != nil {
		p.gauge("dead_letters_kept", "Dead letters in the stream, for all databases and runners.", float64(d.Kept))
		p.counter("dead_letters_evicted_total", "Dead letters evicted because the stream was full.", float64(d.Evicted))
	}
	for i := range s.Databases {
		d := &s.Databases[i]
		p := p.of("database", d.Name)
		p.database(d)
		for j := range d.Lanes {
			p.of("lane", d.Lanes[j].Name).lane(&d.Lanes[j])
		}
	}
}

// part sends the metrics of one part of a snapshot, which share labels.
type part struct {
	ch             chan<- prometheus.Metric
	labels, values []string
}

// of returns the part of this part that a further label names.
func (p part) of(label, value string) part {
	return part{p.ch, append(p.labels[:len(p.labels):len(p.labels)], label), append(p.values[:len(p.values):len(p.values)], value)}
}

func (p part) gauge(name, help string, value float64) {
	p.send(prometheus.GaugeValue, name, help, value)
}

func (p part) counter(name, help string, value float64) {
	p.send(prometheus.CounterValue, name, help, value)
}

func (p part) send(kind prometheus.ValueType, name, help string, value float64) {
	desc := prometheus.NewDesc(prometheus.BuildFQName(prefix, "", name), help, p.labels, nil)
	p.ch <- prometheus.MustNewConstMetric(desc, kind, value, p.values...)
}

func (p part) database(d *Database) {
	p.of("engine", d.Engine).gauge("database_info", "Databases of this runner; always 1.", 1)
	p.gauge("database_up", "Whether the database responds.", truth(d.Up))
	if d.Catalog != "" {
		p.of("hash", d.Catalog).gauge("catalog_info", "Hash of the runner's catalog of the database; always 1.", 1)
	}
	p.gauge("results_full", "Whether intake has stopped because the results stream is full.", truth(d.ResultsFull))
	const paused = "Whether an operator has paused the database's jobs, or with label queue those of the queue."
	p.gauge("paused", paused, truth(d.Paused))
	for i := range d.Lanes {
		if l := &d.Lanes[i]; l.Queue != "" {
			p.of("queue", l.Queue).gauge("paused", paused, truth(l.Paused))
			p.of("queue", l.Queue).gauge("queue_failed", "Whether this runner has a failed job that keeps an ordered queue waiting for runner resume.", truth(l.Failed != nil))
		}
	}
	p.counter("results_purged_total", "Results purged before their maximum age, to free space.", float64(d.Purged))
	p.gauge("pool_max_connections", "Maximum number of database connections.", float64(d.Pool.Max))
	const connections = "Database connections, by state."
	p.of("state", "idle").gauge("pool_connections", connections, float64(d.Pool.Idle))
	p.of("state", "in_use").gauge("pool_connections", connections, float64(d.Pool.InUse))
	p.gauge("pool_waiting", "Calls waiting for a connection.", float64(d.Pool.Waiting))
	p.counter("pool_acquires_total", "Connections acquired.", float64(d.Pool.Acquires))
	p.counter("pool_cancelled_acquires_total", "Cancelled waits for a connection.", float64(d.Pool.CanceledAcquires))
	p.counter("pool_acquire_wait_seconds_total", "Time spent waiting for connections.", d.Pool.AcquireWait.Seconds())
	if l := d.Ledger; l != nil {
		p.counter("ledger_rows_deleted_total", "Ledger rows deleted after their retention.", float64(l.Deleted))
		p.gauge("ledger_sweep_failing", "Whether the last ledger cleanup failed.", truth(l.Error != ""))
		if !l.At.IsZero() {
			p.gauge("ledger_swept_timestamp_seconds", "Time of the last ledger cleanup.", float64(l.At.UnixMilli())/1000)
		}
	}
	if d.Outbox != nil {
		p.outbox(d.Outbox)
	}
	if d.Schedules != nil {
		p.schedules(d.Schedules)
	}
	q := d.Queue
	if q == nil {
		return
	}
	for _, oldest := range q.Oldest {
		age, p := 0.0, p
		if !oldest.Stored.IsZero() {
			age = max(time.Since(oldest.Stored).Seconds(), 0)
		}
		if oldest.Queue != "" {
			p = p.of("queue", oldest.Queue)
		}
		p.gauge("queue_oldest_age_seconds", "Age of the oldest job of the database that is in no queue, or with label queue of the oldest "+
			"one in it, including ack pending jobs; 0 if there is none.", age)
	}
	p.gauge("results_stream_used_ratio", "Used share of the limits of the results stream.", q.ResultsUsed)
	p.gauge("queue_sample_age_seconds", "Age of the last sample of the database's streams.", time.Since(q.At).Seconds())
	for i := range q.Lanes {
		l, p := &q.Lanes[i], p.of("lane", q.Lanes[i].Name)
		p.gauge("queue_waiting", "Pending jobs, not delivered to any runner yet: the lag of the whole fleet.", float64(l.Pending))
		p.gauge("queue_held", "Ack pending jobs, delivered but not acknowledged, in the whole fleet.", float64(max(l.AckPending, 0)))
	}
}

func (p part) outbox(o *report.Outbox) {
	p.counter("outbox_relayed_total", "Rows of the outbox that this runner has published as jobs.", float64(o.Relayed))
	p.gauge("outbox_failing", "Whether rows of the outbox wait because its table cannot be used or a target refuses them.", truth(o.Failing))
	if !o.Counted {
		return
	}
	p.gauge("outbox_waiting", "Rows of the outbox that are not published yet; at most 10000 are counted.", float64(o.Waiting))
	p.gauge("outbox_failed", "Rows of the outbox with an error, which are not published; at most 10000 are counted.", float64(o.Failed))
	age := 0.0
	if !o.Oldest.IsZero() {
		age = max(time.Since(o.Oldest).Seconds(), 0)
	}
	p.gauge("outbox_oldest_age_seconds", "Age of the oldest row of the outbox that is not published yet; 0 if none waits.", age)
}

func (p part) schedules(s *Schedules) {
	const schedules = "Schedules of the database, by state: all of them, and among them those that are paused, finished or do not fire."
	p.of("state", "all").gauge("schedules", schedules, float64(s.Total))
	p.of("state", "paused").gauge("schedules", schedules, float64(s.Paused))
	p.of("state", "finished").gauge("schedules", schedules, float64(s.Finished))
	p.of("state", "failing").gauge("schedules", schedules, float64(s.Failing))
	p.gauge("schedules_overdue_seconds", "How long the oldest tick that is due has not been settled; 0: all are settled.", s.Overdue)
	const ticks = "Ticks of schedules that this runner has settled, by outcome."
	p.of("outcome", "fired").counter("schedule_ticks_total", ticks, float64(s.Ticks.Fired))
	p.of("outcome", "missed").counter("schedule_ticks_total", ticks, float64(s.Ticks.Missed))
	p.of("outcome", "skipped").counter("schedule_ticks_total", ticks, float64(s.Ticks.Skipped))
	p.of("outcome", "unconfirmed").counter("schedule_ticks_total", ticks, float64(s.Ticks.Unconfirmed))
}

func (p part) lane(l *report.Lane) {
	p.gauge("lane_slots", "Slots of the lane.", float64(l.Slots))
	p.gauge("lane_slots_in_use", "Slots of the lane that are in use.", float64(l.SlotsInUse))
	p.gauge("lane_settling", "Finished jobs of the lane whose results are being published; not in slots.", float64(l.Settling))
	p.gauge("lane_intake_failed", "Whether the lane requests jobs but receives none.", truth(l.IntakeError != ""))
	for disposition, n := range l.Ended {
		p.of("disposition", disposition).counter("deliveries_total", "Deliveries, by disposition.", float64(n))
	}
	p.counter("leases_lost_total", "Jobs whose lease was lost; another runner may have received them.", float64(l.LeasesLost))
	p.counter("replies_lost_total", "Replies that could not be sent; the results are stored.", float64(l.RepliesLost))
	p.counter("dead_letters_lost_total", "Dead letters that could not be stored; the results are stored.", float64(l.DeadLettersLost))
	p.counter("result_conflicts_total", "Results that conflicted with a stored one.", float64(l.Taken))
	p.counter("panics_total", "Panics caught in the runner.", float64(l.Panics))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
