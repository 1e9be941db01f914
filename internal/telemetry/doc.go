// Package telemetry shows how a runner is: metrics for Prometheus, health for orchestrators, and
// traces for OpenTelemetry. It owns both libraries and the HTTP server.
//
// It knows nothing of the runner's other parts: app hands in what is to be shown, in this package's words. Nothing here
// is waited for by a job: counters are atomic, a scrape reads what is in memory, and traces that cannot be sent in time
// are dropped.
package telemetry
