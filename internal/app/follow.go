package app

import (
	"dbrunner/internal/jobs"
	"dbrunner/internal/telemetry"
	"dbrunner/internal/worker"
)

// tracer returns who follows the deliveries of a database; nil if nobody does.
func (w *watch) tracer(namespace string, d *database) worker.Tracer {
	if w.tracing == nil {
		return nil
	}
	return &follower{tracing: w.tracing, engine: d.db.Engine(), prefix: namespace + ".jobs." + d.name + "."}
}

// follower is one database's worker.Tracer.
type follower struct {
	tracing *telemetry.Tracing
	engine  string
	prefix  string // of the jobs' subjects
}

// Follow begins a delivery's span, below the publisher's where its headers name one.
func (f *follower) Follow(lane string, d *jobs.Delivery) worker.Trace {
	return &followed{f.tracing.Begin(&telemetry.Job{
		Database: d.Database, Engine: f.engine, Kind: d.Kind, Lane: lane, Subject: f.prefix + d.Kind,
		Sequence: d.Sequence, Deliveries: d.Deliveries, TraceParent: d.TraceParent(), TraceState: d.TraceState(),
	})}
}

// followed is one delivery's worker.Trace.
type followed struct{ *telemetry.JobSpan }

// Step tells of a step in telemetry's words.
func (f *followed) Step(s jobs.Step) {
	switch s {
	case jobs.StepDecode:
		f.JobSpan.Step(telemetry.StepDecode)
	case jobs.StepAcquire:
		f.JobSpan.Step(telemetry.StepAcquire)
	case jobs.StepExecute:
		f.JobSpan.Step(telemetry.StepExecute)
	case jobs.StepPublish:
		f.JobSpan.Step(telemetry.StepPublish)
	default:
		f.JobSpan.Step(telemetry.StepNone)
	}
}

// Failed tells that the step under way has failed.
func (f *followed) Failed(code string) { f.Fail(code) }

// End ends the span.
func (f *followed) End(e worker.Event) {
	f.JobSpan.End(&telemetry.JobSpanEnd{
		End: e.End.String(), JobID: e.JobID, Status: string(e.Status), Code: e.Code, Duplicate: e.Duplicate, Attempts: e.Attempts,
	})
}
