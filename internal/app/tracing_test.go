package app_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"dbrunner/internal/app"
	"dbrunner/internal/manager"
)

// receiver is a collector of traces.
type receiver struct {
	mu       sync.Mutex
	spans    []*trace.Span
	resource []*common.KeyValue
}

func newReceiver(t *testing.T) (*receiver, string) {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return r, server.URL
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var traces collector.ExportTraceServiceRequest
	if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &traces) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range traces.GetResourceSpans() {
		r.resource = of.GetResource().GetAttributes()
		for _, scope := range of.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
}

// of returns the spans of one trace in the order in which they started.
func (r *receiver) of(traceID string) []*trace.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*trace.Span
	for _, s := range r.spans {
		if hex.EncodeToString(s.GetTraceId()) == traceID {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *trace.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	return out
}

func attribute(list []*common.KeyValue, key string) string {
	for _, kv := range list {
		if kv.GetKey() == key {
			return kv.GetValue().GetStringValue()
		}
	}
	return ""
}

func names(spans []*trace.Span) []string {
	var out []string
	for _, s := range spans {
		out = append(out, s.GetName())
	}
	return out
}

const (
	traceOK     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceFailed = "5bf92f3577b34da6a3ce929d0e0e4736"
	traceBad    = "6bf92f3577b34da6a3ce929d0e0e4736"
	parentID    = "00f067aa0ba902b7"
)

// The publisher's trace goes on through a job's steps and into its result. Not parallel: the environment is everybody's.
func TestTraces(t *testing.T) {
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			spans, url := newReceiver(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
			w := setup(t)
			r := w.start(w.config("r1", database(t)))
			tracedWork(t, w)
			r.end(t) // sends what is left
			requireTraces(t, spans, name)
			requireTracedLogs(t, r)
		})
	}
}

// tracedWork publishes a job for each trace, and one without.
func tracedWork(t *testing.T, w *world) {
	t.Helper()
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createAccounts).Status)
	for id, body := range map[string]string{
		traceOK:     `{"id":"ok",` + transfer + `}`,
		traceFailed: `{"id":"failed","statements":[{"sql":"UPDATE accounts SET balance = -98076151"}]}`,
		traceBad:    `{"id":"bad","statments":[]}`,
	} {
		m := natsMsg("dbrunner.jobs.shop.transaction", "traceparent", "00-"+id+"-"+parentID+"-01", "tracestate", "a=b")
		m.Data = []byte(body)
		_, err := w.js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	for id, status := range map[string]string{"ok": "succeeded", "failed": "failed", "bad": "rejected"} {
		require.Equal(t, status, w.await("shop", id).Status)
	}
}

func requireTraces(t *testing.T, spans *receiver, engine string) {
	t.Helper()
	system := map[string]string{"postgres": "postgresql", "sqlite": "sqlite"}[engine]
	require.Equal(t, "dbrunner", attribute(spans.resource, "service.name"))
	require.Equal(t, "r1", attribute(spans.resource, "service.instance.id"))
	require.Equal(t, "test", attribute(spans.resource, "deployment.environment.name"))

	ok := spans.of(traceOK)
	require.Equal(t, []string{"process dbrunner.jobs.shop.transaction", "decode", "acquire", "execute", "publish"}, names(ok))
	job := ok[0]
	require.Equal(t, parentID, hex.EncodeToString(job.GetParentSpanId()))
	require.Equal(t, "a=b", job.GetTraceState())
	require.Equal(t, trace.Span_SPAN_KIND_CONSUMER, job.GetKind())
	for key, want := range map[string]string{
		"messaging.system": "nats", "messaging.operation.type": "process", "messaging.destination.name": "dbrunner.jobs.shop.transaction",
		"messaging.message.id": "ok", "messaging.consumer.group.name": "work", "dbrunner.database": "shop", "dbrunner.status": "succeeded",
	} {
		require.Equal(t, want, attribute(job.GetAttributes(), key), key)
	}
	for _, step := range ok[1:] {
		require.Equal(t, job.GetSpanId(), step.GetParentSpanId())
		require.GreaterOrEqual(t, job.GetEndTimeUnixNano(), step.GetEndTimeUnixNano())
	}
	require.Equal(t, trace.Span_SPAN_KIND_CLIENT, ok[3].GetKind())
	require.Equal(t, system, attribute(ok[3].GetAttributes(), "db.system.name"))

	failed := spans.of(traceFailed)
	require.Equal(t, []string{"process dbrunner.jobs.shop.transaction", "decode", "acquire", "execute", "publish"}, names(failed))
	for _, i := range []int{0, 3} {
		require.Equal(t, trace.Status_STATUS_CODE_ERROR, failed[i].GetStatus().GetCode())
		require.Equal(t, "check_violation", attribute(failed[i].GetAttributes(), "error.type"))
	}
	require.Equal(t, []string{"process dbrunner.jobs.shop.transaction", "decode", "publish"}, names(spans.of(traceBad)))
	for _, s := range spans.spans {
		require.NotContains(t, s.String(), "98076151", "values stay where they are")
		require.NotContains(t, strings.ToUpper(s.String()), "UPDATE ACCOUNTS")
	}
}

func requireTracedLogs(t *testing.T, r *runner) {
	t.Helper()
	for _, entry := range r.logs.FilterMessage("job ended").All() {
		fields := entry.ContextMap()
		if fields["job_id"] == "failed" {
			require.Equal(t, traceFailed, fields["trace_id"])
			return
		}
	}
	require.Fail(t, "the failed job is not in the log")
}

// A result says to which trace it belongs, wherever it is read.
func TestResultsBelongToTraces(t *testing.T) {
	spans, url := newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url+"/v1/traces")
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop")))
	sub, err := w.nc.SubscribeSync("dbrunner.results.shop.ok")
	require.NoError(t, err)
	m := natsMsg("dbrunner.jobs.shop.query", "traceparent", "00-"+traceOK+"-"+parentID+"-01")
	m.Data = []byte(`{"id":"ok","sql":"SELECT 1 AS n"}`)
	_, err = w.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	seen, err := sub.NextMsg(testTimeout)
	require.NoError(t, err)
	r.end(t)
	job := spans.of(traceOK)[0]
	require.Equal(t, "00-"+traceOK+"-"+hex.EncodeToString(job.GetSpanId())+"-01", seen.Header.Get("traceparent"))
}

// A missing collector costs a job only its trace.
func TestCollectorIsGone(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop")))
	require.Equal(t, "succeeded", w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`).Status)
	r.end(t)
	require.Positive(t, r.logs.FilterMessage("traces not sent").Len()+r.logs.FilterMessage("traces lost").Len())
}

// A variable that requests an unknown exporter ends the startup with the fix.
func TestTracingThatIsNotThere(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	w := setup(t)
	r := w.launch(app.Options{Config: w.config("r1", withSQLite(t, "shop"))})
	err := r.fails(t)
	require.ErrorContains(t, err, "OTEL_EXPORTER_OTLP_PROTOCOL: write http/protobuf")
	var fault *manager.ConfigError
	require.ErrorAs(t, err, &fault)
}
