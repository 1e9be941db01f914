package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Traces are off unless the standard variables ask for them.
func TestTracingWanted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ map[string]string
		want    bool
		fault   string
	}{
		"nothing is set":     {},
		"an endpoint":        {environ: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, want: true},
		"one of traces":      {environ: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}, want: true},
		"the exporter alone": {environ: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, want: true},
		"a service name":     {environ: map[string]string{"OTEL_SERVICE_NAME": "x"}},
		"none":               {environ: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}},
		"disabled":           {environ: map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}},
		"disabled, although faulty": {environ: map[string]string{
			"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
		}},
		"json": {environ: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, want: true},
		"grpc": {
			environ: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
			fault:   "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: write http/protobuf or http/json",
		},
		"another exporter": {
			environ: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"},
			fault:   "OTEL_TRACES_EXPORTER: write otlp, or none",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tracingWanted(func(name string) string { return c.environ[name] })
			if c.fault != "" {
				require.ErrorContains(t, err, c.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
