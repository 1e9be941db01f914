package delivery

import (
	"encoding/hex"
	"errors"
	"strings"

	"dbrunner/internal/db"
	"dbrunner/internal/report"
)

// Trace receives the steps of one delivery, one after the other. Several goroutines may report steps in turn, and
// after the delivery has ended: then they mean nothing.
type Trace interface {
	// Step ends the step under way, if there is one, and starts another.
	Step(s report.Step)
	// Failed reports that the step under way has failed, with a stable code.
	Failed(code string)
}

// Step reports to the delivery's trace that a step starts.
func (d *Delivery) Step(s report.Step) {
	if d.Trace != nil {
		d.Trace.Step(s)
	}
}

// stepFailed reports to the delivery's trace that the step under way has failed.
func (d *Delivery) stepFailed(err error) {
	if d.Trace == nil {
		return
	}
	if e, ok := errors.AsType[*db.Error](err); ok {
		d.Trace.Failed(string(e.Code))
	}
}

// TraceParent is the publisher's W3C trace context, empty if the job has none.
func (d *Delivery) TraceParent() string { return d.header("traceparent", "Traceparent") }

// TraceState is what the publisher's tracing system adds to it; mostly empty.
func (d *Delivery) TraceState() string { return d.header("tracestate", "Tracestate") }

// header returns the first value of a header. NATS keeps the case of names, and some libraries write them in the form
// of HTTP.
func (d *Delivery) header(name, canonical string) string {
	if values := d.Headers[name]; len(values) > 0 {
		return values[0]
	}
	if values := d.Headers[canonical]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// The form of a trace context: version, trace id, parent id and flags, each in hexadecimal, joined by dashes.
const (
	traceIDFrom  = 3
	traceIDUntil = traceIDFrom + 32
	parentFrom   = traceIDUntil + 1
	parentUntil  = parentFrom + 16
	traceLength  = parentUntil + 3
)

// TraceID is the id of the publisher's trace, empty if the job has none that is valid.
func (d *Delivery) TraceID() string {
	t := d.TraceParent()
	if len(t) < traceLength || len(t) > traceLength && t[traceLength] != '-' {
		return ""
	}
	if t[traceIDFrom-1] != '-' || t[traceIDUntil] != '-' || t[parentUntil] != '-' || strings.HasPrefix(t, "ff") {
		return ""
	}
	id := t[traceIDFrom:traceIDUntil]
	if !isHex(t[:traceIDFrom-1]) || !isHex(id) || !isHex(t[parentFrom:parentUntil]) || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && strings.ToLower(s) == s
}
