package telemetry

import (
	"time"

	"dbrunner/internal/report"
)

// The metrics that are read from a snapshot, one line per metric.

func runnerFamilies() []family[Snapshot] {
	return []family[Snapshot]{
		gauge("ready", "Whether jobs can run here: 1, or 0 while the runner starts or drains, or if no lane can run jobs.",
			func(s *Snapshot) float64 { return truth(s.Ready) }),
		gauge("draining", "Whether the runner is draining.", func(s *Snapshot) float64 { return truth(s.Draining) }),
		gauge("nats_connected", "Whether the runner is connected to NATS.", func(s *Snapshot) float64 { return truth(s.NATS.Connected) }),
		counter("nats_reconnects_total", "Reconnections to NATS.", func(s *Snapshot) float64 { return float64(s.NATS.Reconnects) }),
		gauge("nats_denied_subjects", "Subjects that NATS refused because the runner lacks permission.",
			func(s *Snapshot) float64 { return float64(s.NATS.Denied) }),
		counter("nats_denied_replies_total", "Answers that NATS refused to publish to the requester's subject.",
			func(s *Snapshot) float64 { return float64(s.NATS.DeniedReplies) }),
	}
}

func deadFamilies() []family[DeadLetters] {
	return []family[DeadLetters]{
		gauge("dead_letters_kept", "Dead letters in the stream, for all databases and runners.",
			func(d *DeadLetters) float64 { return float64(d.Kept) }),
		counter("dead_letters_evicted_total", "Dead letters evicted because the stream was full.",
			func(d *DeadLetters) float64 { return float64(d.Evicted) }),
	}
}

func databaseFamilies() []family[Database] {
	return []family[Database]{
		gauge("database_up", "Whether the database responds.", func(d *Database) float64 { return truth(d.Up) }, "database"),
		gauge("results_full", "Whether intake has stopped because the results stream is full.",
			func(d *Database) float64 { return truth(d.ResultsFull) }, "database"),
		gauge("pool_max_connections", "Maximum number of database connections.",
			func(d *Database) float64 { return float64(d.Pool.Max) }, "database"),
		gauge("pool_waiting", "Calls waiting for a connection.",
			func(d *Database) float64 { return float64(d.Pool.Waiting) }, "database"),
		counter("pool_acquires_total", "Connections acquired.",
			func(d *Database) float64 { return float64(d.Pool.Acquires) }, "database"),
		counter("pool_cancelled_acquires_total", "Cancelled waits for a connection.",
			func(d *Database) float64 { return float64(d.Pool.CanceledAcquires) }, "database"),
		counter("pool_acquire_wait_seconds_total", "Time spent waiting for connections.",
			func(d *Database) float64 { return d.Pool.AcquireWait.Seconds() }, "database"),
		counter("results_purged_total", "Results purged before their maximum age, to free space.",
			func(d *Database) float64 { return float64(d.Purged) }, "database"),
	}
}

func ledgerFamilies() []family[report.Sweep] {
	return []family[report.Sweep]{
		counter("ledger_rows_deleted_total", "Ledger rows deleted after their retention.",
			func(l *report.Sweep) float64 { return float64(l.Deleted) }, "database"),
		gauge("ledger_sweep_failing", "Whether the last ledger cleanup failed.",
			func(l *report.Sweep) float64 { return truth(l.Error != "") }, "database"),
	}
}

func laneFamilies() []family[report.Lane] {
	return []family[report.Lane]{
		gauge("lane_slots", "Slots of the lane.", func(l *report.Lane) float64 { return float64(l.Slots) }, "database", "lane"),
		gauge("lane_slots_in_use", "Slots of the lane that are in use.", func(l *report.Lane) float64 { return float64(l.SlotsInUse) }, "database", "lane"),
		gauge("lane_settling", "Finished jobs of the lane whose results are being published; not in slots.",
			func(l *report.Lane) float64 { return float64(l.Settling) }, "database", "lane"),
		gauge("lane_intake_failed", "Whether the lane requests jobs but receives none.",
			func(l *report.Lane) float64 { return truth(l.IntakeError != "") }, "database", "lane"),
		counter("leases_lost_total", "Jobs whose lease was lost; another runner may have received them.",
			func(l *report.Lane) float64 { return float64(l.LeasesLost) }, "database", "lane"),
		counter("replies_lost_total", "Replies that could not be sent; the results are stored.",
			func(l *report.Lane) float64 { return float64(l.RepliesLost) }, "database", "lane"),
		counter("dead_letters_lost_total", "Dead letters that could not be stored; the results are stored.",
			func(l *report.Lane) float64 { return float64(l.DeadLettersLost) }, "database", "lane"),
		counter("result_conflicts_total", "Results that conflicted with a stored one.",
			func(l *report.Lane) float64 { return float64(l.Taken) }, "database", "lane"),
		counter("panics_total", "Panics caught in the runner.",
			func(l *report.Lane) float64 { return float64(l.Panics) }, "database", "lane"),
	}
}

func queueFamilies() []family[Queue] {
	return []family[Queue]{
		gauge("results_stream_used_ratio", "Used share of the limits of the results stream.",
			func(q *Queue) float64 { return q.ResultsUsed }, "database"),
		gauge("queue_sample_age_seconds", "Age of the last sample of the database's streams.",
			func(q *Queue) float64 { return time.Since(q.At).Seconds() }, "database"),
	}
}

func laneQueueFamilies() []family[LaneQueue] {
	return []family[LaneQueue]{
		gauge("queue_waiting", "Pending jobs, not delivered to any runner yet: the lag of the whole fleet.",
			func(q *LaneQueue) float64 { return float64(q.Pending) }, "database", "lane"),
		gauge("queue_held", "Ack pending jobs, delivered but not acknowledged, in the whole fleet.",
			func(q *LaneQueue) float64 { return float64(max(q.AckPending, 0)) }, "database", "lane"),
	}
}
