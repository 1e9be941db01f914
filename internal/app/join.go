package app

import (
	"context"
	"time"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/relay"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/db"
	"dbrunner/internal/delivery"
	"dbrunner/internal/outbox"
	"dbrunner/internal/report"
	"dbrunner/internal/telemetry"
	"dbrunner/internal/worker"
)

// Here the worker's small interfaces meet the bus, which does not know them.

var (
	_ worker.Results   = (*resultStore)(nil)
	_ worker.Outbox    = (*deadLetterOutbox)(nil)
	_ worker.Backlog   = (*backlog)(nil)
	_ outbox.Publisher = (*relay.Publisher)(nil)
	_ worker.Prober    = db.Database(nil)
	_ worker.Ledger    = db.Database(nil)

	_ delivery.Cancellations = (*cancellations)(nil)
)

// cancellations are one database's jobs.Cancellations.
type cancellations struct {
	all      *control.Cancellations
	database string
}

// Requested reports whether the end of a job was asked for after its message was stored.
func (c *cancellations) Requested(jobID string, stored time.Time) bool {
	return c.all.Requested(c.database, jobID, stored)
}

// resultStore is one database's worker.Results.
type resultStore struct {
	*results.Results
	traced bool // results say to which trace they belong
}

// Store writes a result unless its subject is taken.
func (r *resultStore) Store(ctx context.Context, jobID string, body []byte) (report.StoreVerdict, error) {
	if r.traced {
		if parent := telemetry.TraceParent(ctx); parent != "" {
			return r.StoreTraced(ctx, jobID, parent, body)
		}
	}
	return r.Results.Store(ctx, jobID, body)
}

// backlog is one database's worker.Backlog.
type backlog struct {
	conn     *bus.Conn
	database string
}

// Oldest returns the timestamp of the oldest message still in the database's stream.
func (b *backlog) Oldest(ctx context.Context) (time.Time, bool, error) {
	return bus.OldestJob(ctx, b.conn, b.database)
}
