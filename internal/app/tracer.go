package app

import (
	"dbrunner/contract"
	"dbrunner/internal/delivery"
	"dbrunner/internal/telemetry"
	"dbrunner/internal/worker"
)

var (
	_ worker.Observer = (*telemetry.Jobs)(nil)
	_ worker.Trace    = (*telemetry.JobSpan)(nil)
)

// tracer is one database's worker.Tracer.
type tracer struct {
	tracing  *telemetry.Tracing
	engine   string
	subjects contract.Subjects
}

// Start starts a delivery's span, below the publisher's where its headers name one.
func (t *tracer) Start(lane string, d *delivery.Delivery) worker.Trace {
	return t.tracing.Begin(&telemetry.Job{
		Database: d.Database, Engine: t.engine, Kind: d.Kind, Lane: lane,
		Subject:  t.subjects.Of(contract.JobSubject{Database: d.Database, Queue: d.Queue, Kind: d.Kind}),
		Sequence: d.Sequence, Deliveries: d.Deliveries, TraceParent: d.TraceParent(), TraceState: d.TraceState(),
	})
}
