package telemetry

import "time"

// What is read from a snapshot: a metric is one line here.

func runnerFamilies() []family[Snapshot] {
	return []family[Snapshot]{
		gauge("ready", "Whether jobs can run here: 1, or 0 while the runner starts, drains, or no lane can work.",
			func(s *Snapshot) float64 { return truth(s.Ready) }),
		gauge("draining", "Whether the runner is ending.", func(s *Snapshot) float64 { return truth(s.Draining) }),
		gauge("nats_connected", "Whether the connection to NATS stands.", func(s *Snapshot) float64 { return truth(s.NATS.Connected) }),
		counter("nats_reconnects_total", "Renewals of the connection to NATS.", func(s *Snapshot) float64 { return float64(s.NATS.Reconnects) }),
		gauge("nats_denied_subjects", "Subjects that NATS has refused: the runner's permissions are too narrow.",
			func(s *Snapshot) float64 { return float64(s.NATS.Denied) }),
		counter("nats_denied_replies_total", "Answers that NATS did not let go to where their requester wanted them.",
			func(s *Snapshot) float64 { return float64(s.NATS.DeniedReplies) }),
	}
}

func deadFamilies() []family[DeadLetters] {
	return []family[DeadLetters]{
		gauge("dead_letters_kept", "Dead letters in their stream, of all databases and runners.",
			func(d *DeadLetters) float64 { return float64(d.Letters) }),
		counter("dead_letters_evicted_total", "Dead letters seen to go because their stream was full.",
			func(d *DeadLetters) float64 { return float64(d.Evicted) }),
	}
}

func databaseFamilies() []family[Database] {
	return []family[Database]{
		gauge("database_up", "Whether the database answers.", func(d *Database) float64 { return truth(d.Up) }, "database"),
		gauge("results_full", "Whether the intake has stopped because results find no room.",
			func(d *Database) float64 { return truth(d.ResultsFull) }, "database"),
		gauge("pool_max_connections", "Connections to the database at most.",
			func(d *Database) float64 { return float64(d.Pool.Max) }, "database"),
		gauge("pool_waiting", "Calls that wait for a connection.",
			func(d *Database) float64 { return float64(d.Pool.Waiting) }, "database"),
		counter("pool_acquires_total", "Connections given out.",
			func(d *Database) float64 { return float64(d.Pool.Acquires) }, "database"),
		counter("pool_canceled_acquires_total", "Waits for a connection that were given up.",
			func(d *Database) float64 { return float64(d.Pool.CanceledAcquires) }, "database"),
		counter("pool_acquire_wait_seconds_total", "Time that calls have waited for a connection.",
			func(d *Database) float64 { return d.Pool.AcquireWait.Seconds() }, "database"),
		counter("results_purged_total", "Results removed before their maximum age, to make room.",
			func(d *Database) float64 { return float64(d.Purged) }, "database"),
	}
}

func ledgerFamilies() []family[Ledger] {
	return []family[Ledger]{
		counter("ledger_rows_deleted_total", "Rows removed from the ledger after their retention.",
			func(l *Ledger) float64 { return float64(l.Deleted) }, "database"),
		gauge("ledger_sweep_failing", "Whether the last clean-up of the ledger failed.",
			func(l *Ledger) float64 { return truth(l.Failing) }, "database"),
	}
}

func laneFamilies() []family[Lane] {
	return []family[Lane]{
		gauge("lane_slots", "Jobs that the lane may hold at once.", func(l *Lane) float64 { return float64(l.Slots) }, "database", "lane"),
		gauge("lane_slots_in_use", "Jobs that the lane holds.", func(l *Lane) float64 { return float64(l.Held) }, "database", "lane"),
		gauge("lane_settling", "Ended jobs besides, whose results are on their way.",
			func(l *Lane) float64 { return float64(l.Settling) }, "database", "lane"),
		gauge("lane_intake_failed", "Whether the lane gets no jobs, although it asks for them.",
			func(l *Lane) float64 { return truth(l.IntakeFailed) }, "database", "lane"),
		counter("leases_lost_total", "Jobs whose lease was lost: another runner may have them.",
			func(l *Lane) float64 { return float64(l.LeasesLost) }, "database", "lane"),
		counter("replies_lost_total", "Replies that could not be sent; the stored results have the answers.",
			func(l *Lane) float64 { return float64(l.RepliesLost) }, "database", "lane"),
		counter("dead_letters_lost_total", "Dead letters that were given up; the stored results have the answers.",
			func(l *Lane) float64 { return float64(l.LettersLost) }, "database", "lane"),
		counter("results_taken_total", "Results whose place was taken already.",
			func(l *Lane) float64 { return float64(l.Taken) }, "database", "lane"),
		counter("panics_total", "Defects of the runner's own that were caught.",
			func(l *Lane) float64 { return float64(l.Panics) }, "database", "lane"),
	}
}

func queueFamilies() []family[Queue] {
	return []family[Queue]{
		gauge("results_stream_used_ratio", "Used share of the limits of the results stream.",
			func(q *Queue) float64 { return q.ResultsUsed }, "database"),
		gauge("queue_sample_age_seconds", "Age of what is told of the database's streams.",
			func(q *Queue) float64 { return time.Since(q.At).Seconds() }, "database"),
	}
}

func laneQueueFamilies() []family[LaneQueue] {
	return []family[LaneQueue]{
		gauge("queue_waiting", "Jobs that were delivered to no runner yet: the lag of the whole fleet.",
			func(q *LaneQueue) float64 { return float64(q.Waiting) }, "database", "lane"),
		gauge("queue_held", "Jobs delivered and not acknowledged, of the whole fleet.",
			func(q *LaneQueue) float64 { return float64(q.Held) }, "database", "lane"),
	}
}
