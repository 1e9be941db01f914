package telemetry

import (
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// scope is the name of our instrumentation, and of the service unless OTEL_SERVICE_NAME says another.
const scope = "dbrunner"

// TracingOptions say who sends traces.
type TracingOptions struct {
	Build  Build
	Logger *zap.Logger
}

// Tracing sends traces to where the standard variables of OpenTelemetry say. What cannot be sent in time is dropped.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
}

// SettingError is a variable that requests a feature that this program does not have.
type SettingError struct{ Variable, Want string }

func (e *SettingError) Error() string { return e.Variable + ": " + e.Want }

// StartTracing starts sending traces, or returns nil where the environment does not ask for them. An error is a
// *SettingError, or what the exporter says of its own variables. The owner calls Close.
func StartTracing(ctx context.Context, opts TracingOptions) (*Tracing, error) {
	wanted, err := tracingWanted(os.Getenv)
	if err != nil || !wanted {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_…: %w", err)
	}
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName(scope), semconv.ServiceVersion(opts.Build.Version), semconv.ServiceInstanceID(opts.Build.Runner),
	), resource.WithFromEnv()) // what the environment says goes before
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(described), sdk.WithBatcher(&exporting{exporter, opts.Logger}))
	return &Tracing{provider: provider, tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(opts.Build.Version))}, nil
}

// tracingWanted reads the variables that enable traces; the libraries read the others.
func tracingWanted(getenv func(string) string) (bool, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := strings.TrimSpace(getenv(name)); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	if _, disabled := first("OTEL_SDK_DISABLED"); strings.EqualFold(disabled, "true") {
		return false, nil
	}
	_, endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	switch name, exporter := first("OTEL_TRACES_EXPORTER"); {
	case exporter == "none" || exporter == "" && endpoint == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, &SettingError{name, "write otlp, or none"}
	}
	switch name, protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", "http/protobuf", "http/json":
		return true, nil
	default:
		return false, &SettingError{name, "write http/protobuf or http/json, and the collector's port for them, mostly 4318"}
	}
}

// Close sends what is left, as long as ctx lives, and ends.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// exporting logs export errors. The library would use its process-wide logger.
type exporting struct {
	sdk.SpanExporter
	log *zap.Logger
}

// ExportSpans sends spans; those that could not be sent are gone.
func (e *exporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil && ctx.Err() == nil {
		e.log.Warn("traces not sent", zap.Int("spans", len(spans)), zap.Error(err))
	}
	return nil
}

// TraceParent returns the W3C form of the trace that ctx belongs to, empty if it belongs to none.
func TraceParent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// system is the semantic conventions' word for an engine.
func system(engine string) attribute.KeyValue {
	switch engine {
	case "postgres":
		return semconv.DBSystemNamePostgreSQL
	case "sqlserver":
		return semconv.DBSystemNameMicrosoftSQLServer
	default:
		return semconv.DBSystemNameKey.String(engine)
	}
}
