package app

import (
	"dbrunner/internal/telemetry"
	"dbrunner/internal/worker"

	"dbrunner/internal/delivery"
)

// tracer returns the tracer of a database's deliveries; nil if there is none.
func (w *monitoring) tracer(namespace string, d *database) worker.Tracer {
	if w.tracing == nil {
		return nil
	}
	return &jobTracer{tracing: w.tracing, engine: d.DB.Engine(), prefix: namespace + ".jobs." + d.Name + "."}
}

// jobTracer is one database's worker.Tracer.
type jobTracer struct {
	tracing *telemetry.Tracing
	engine  string
	prefix  string // of the jobs' subjects
}

// Start starts a delivery's span, below the publisher's where its headers name one.
func (f *jobTracer) Start(lane string, d *delivery.Delivery) worker.Trace {
	return &deliveryTrace{f.tracing.Begin(&telemetry.Job{
		Database: d.Database, Engine: f.engine, Kind: d.Kind, Lane: lane, Subject: f.prefix + d.Kind,
		Sequence: d.Sequence, Deliveries: d.Deliveries, TraceParent: d.TraceParent(), TraceState: d.TraceState(),
	})}
}

// deliveryTrace is one delivery's worker.Trace.
type deliveryTrace struct{ *telemetry.JobSpan }

// Failed reports that the step under way has failed.
func (f *deliveryTrace) Failed(code string) { f.Fail(code) }

// End ends the span.
func (f *deliveryTrace) End(e worker.Event) {
	f.JobSpan.End(&telemetry.JobSpanEnd{
		End: e.Disposition.String(), JobID: e.JobID, Status: string(e.Status), Code: e.Code, Duplicate: e.Duplicate, Attempts: e.Attempts,
	})
}
