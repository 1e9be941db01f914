package app

import (
	"dbrunner/internal/delivery"
	"dbrunner/internal/telemetry"
	"dbrunner/internal/worker"
)

// newTracer returns the tracer of a database's deliveries; nil if there is none.
func (d *database) newTracer(namespace string, tracing *telemetry.Tracing) worker.Tracer {
	if tracing == nil {
		return nil
	}
	return &jobTracer{tracing: tracing, engine: d.DB.Engine(), prefix: namespace + ".jobs." + d.Name + "."}
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

// newObserver counts the jobs of a database; nil if nobody looks.
func newObserver(metrics *telemetry.Metrics, database string) worker.Observer {
	if metrics == nil {
		return nil
	}
	return &jobCounter{metrics.Jobs(database)}
}

// jobCounter is one database's worker.Observer.
type jobCounter struct{ jobs *telemetry.Jobs }

// Finished counts a job that has ended. How other deliveries left is counted by the lanes.
func (c *jobCounter) Finished(e worker.Event) {
	if e.Disposition != worker.DispositionSettled {
		return
	}
	end := telemetry.JobEnd{
		Kind: e.Kind, Status: string(e.Status), Code: e.Code, Letter: e.Letter, Duplicate: e.Duplicate, Recorded: e.Recorded,
		Queued: e.Queued, Ran: e.Ran, Held: e.SlotsInUse, Deliveries: e.Deliveries, Attempts: e.Attempts,
	}
	c.jobs.Finished(&end)
}
