package telemetry

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"dbrunner/internal/report"
)

var stepNames = [...]string{report.StepDecode: "decode", report.StepAcquire: "acquire", report.StepExecute: "execute", report.StepPublish: "publish"}

// Job identifies the delivery of a span.
type Job struct {
	Database, Engine, Kind, Lane string
	Subject                      string
	Sequence, Deliveries         uint64
	TraceParent, TraceState      string // of the publisher; empty: none
}

// JobSpan is the span of one delivery, with one below for each step. It is safe for concurrent use; what is reported after
// its end means nothing.
type JobSpan struct {
	tracer trace.Tracer
	engine string
	span   trace.Span

	mu   sync.Mutex
	step trace.Span // nil: between two steps
	over bool
}

// Begin starts the span of a delivery: a child of the publisher's, so that the whole way is one trace. The context of a
// publisher that is not valid is ignored.
func (t *Tracing) Begin(j *Job) *JobSpan {
	parent := t.context.Extract(context.Background(), propagation.MapCarrier{
		"traceparent": j.TraceParent, "tracestate": j.TraceState,
	})
	_, span := t.tracer.Start(parent, "process "+j.Subject, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			semconv.MessagingSystemKey.String("nats"),
			semconv.MessagingOperationTypeProcess,
			semconv.MessagingOperationName("process"),
			semconv.MessagingDestinationName(j.Subject),
			semconv.MessagingConsumerGroupName(j.Lane),
			attribute.String("dbrunner.database", j.Database),
			attribute.String("dbrunner.kind", j.Kind),
			attribute.Int64("dbrunner.sequence", int64(j.Sequence)),
			attribute.Int64("dbrunner.deliveries", int64(j.Deliveries)),
		))
	return &JobSpan{tracer: t.tracer, engine: j.Engine, span: span}
}

// ID is the trace's id in hexadecimal.
func (s *JobSpan) ID() string { return s.span.SpanContext().TraceID().String() }

// Context returns a context that belongs to the span.
func (s *JobSpan) Context(ctx context.Context) context.Context {
	return trace.ContextWithSpan(ctx, s.span)
}

// Step ends the step under way, if there is one, and starts another.
func (s *JobSpan) Step(step report.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endStep()
	if step == report.StepNone || s.over || int(step) >= len(stepNames) {
		return
	}
	var opts []trace.SpanStartOption
	switch step {
	case report.StepExecute:
		opts = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(system(s.engine))}
	case report.StepPublish:
		opts = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			semconv.MessagingSystemKey.String("nats"), semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("publish"),
		)}
	default:
	}
	_, s.step = s.tracer.Start(s.Context(context.Background()), stepNames[step], opts...)
}

// endStep ends the step under way. The mutex is held.
func (s *JobSpan) endStep() {
	if s.step != nil {
		s.step.End()
		s.step = nil
	}
}

// Failed reports that the step under way has failed with a code.
func (s *JobSpan) Failed(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.step != nil {
		fail(s.step, code)
	}
}

func fail(span trace.Span, code string) {
	span.SetStatus(codes.Error, code)
	span.SetAttributes(semconv.ErrorTypeKey.String(code))
}

// End ends the span. A job that has an error code makes it an error.
func (s *JobSpan) End(e report.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	s.endStep()
	s.span.SetAttributes(attribute.String("dbrunner.end", e.Disposition.String()), attribute.Int64("dbrunner.attempts", int64(e.Attempts)))
	if e.JobID != "" {
		s.span.SetAttributes(semconv.MessagingMessageID(e.JobID), attribute.String("dbrunner.status", string(e.Status)),
			attribute.Bool("dbrunner.duplicate", e.Duplicate))
	}
	if e.Code != "" {
		fail(s.span, e.Code)
	}
	s.span.End()
}
