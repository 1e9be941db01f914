package jobs

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// Result is the answer to a job, before it is encoded.
type Result struct {
	JobID      string
	Kind       string
	Database   string
	Effect     Effect // empty if it could not be read
	Status     Status
	Hash       []byte // the request hash; nil if the body could not be understood
	Sequence   uint64
	Deliveries uint64
	Attempts   uint64 // executions begun by this delivery
	Runner     string
	QueuedAt   time.Time // the message's timestamp in the jobs stream
	StartedAt  time.Time // zero: never begun by this delivery
	FinishedAt time.Time
	Labels     map[string]string
	Error      *ResultError // nil on success
	answer     answer
}

// ResultError says why a job did not succeed.
type ResultError struct {
	Code       db.Code
	Message    string // safe to show: no parameter value, no secret
	EngineCode string // SQLSTATE or the engine's number; empty if the database did not answer
	Retryable  bool   // the same job, published again under another id, may succeed
	Faults     []db.Fault
}

// resultOpening is how every result of version 1 begins.
const resultOpening = `{"version":1,`

// duplicateMember is what MarkDuplicate inserts behind resultOpening.
const duplicateMember = `"duplicate":true,`

// Append appends the result as one JSON object. Keys that have nothing to say are left out; the order of the keys
// never changes, so that equal results are equal bytes.
func (r *Result) Append(dst []byte) []byte {
	dst = append(dst, resultOpening+`"job_id":`...)
	dst = jsontext.AppendString(dst, r.JobID)
	dst = append(dst, `,"kind":`...)
	dst = jsontext.AppendString(dst, r.Kind)
	dst = append(dst, `,"database":`...)
	dst = jsontext.AppendString(dst, r.Database)
	if r.Effect != "" {
		dst = append(dst, `,"effect":`...)
		dst = jsontext.AppendString(dst, string(r.Effect))
	}
	dst = append(dst, `,"status":`...)
	dst = jsontext.AppendString(dst, string(r.Status))
	if len(r.Hash) > 0 {
		dst = append(dst, `,"request_hash":"`...)
		dst = hex.AppendEncode(dst, r.Hash)
		dst = append(dst, '"')
	}
	dst = r.appendRun(dst)
	if len(r.Labels) > 0 {
		dst = appendLabels(append(dst, `,"labels":`...), r.Labels)
	}
	if r.answer.append != nil {
		dst = r.answer.append(dst)
	}
	if r.Error != nil {
		dst = r.Error.append(append(dst, `,"error":`...))
	}
	return append(dst, '}')
}

// appendRun appends where and when the job ran.
func (r *Result) appendRun(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `,"sequence":`...), r.Sequence, 10)
	dst = strconv.AppendUint(append(dst, `,"deliveries":`...), r.Deliveries, 10)
	dst = strconv.AppendUint(append(dst, `,"attempts":`...), r.Attempts, 10)
	dst = jsontext.AppendString(append(dst, `,"runner":`...), r.Runner)
	dst = appendTime(append(dst, `,"queued_at":`...), r.QueuedAt)
	if !r.StartedAt.IsZero() {
		dst = appendTime(append(dst, `,"started_at":`...), r.StartedAt)
	}
	return appendTime(append(dst, `,"finished_at":`...), r.FinishedAt)
}

func (e *ResultError) append(dst []byte) []byte {
	dst = jsontext.AppendString(append(dst, `{"code":`...), string(e.Code))
	dst = jsontext.AppendString(append(dst, `,"message":`...), e.Message)
	if e.EngineCode != "" {
		dst = jsontext.AppendString(append(dst, `,"engine_code":`...), e.EngineCode)
	}
	dst = strconv.AppendBool(append(dst, `,"retryable":`...), e.Retryable)
	if len(e.Faults) > 0 {
		dst = AppendFaults(append(dst, `,"faults":`...), e.Faults)
	}
	return append(dst, '}')
}

// AppendFaults appends faults as a JSON array of {"path", "code", "message"}.
func AppendFaults(dst []byte, faults []db.Fault) []byte {
	dst = append(dst, '[')
	for i := range faults {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsontext.AppendString(append(dst, `{"path":`...), faults[i].Path)
		dst = jsontext.AppendString(append(dst, `,"code":`...), string(faults[i].Code))
		dst = jsontext.AppendString(append(dst, `,"message":`...), faults[i].Message)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendLabels(dst []byte, labels map[string]string) []byte {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsontext.AppendString(dst, name)
		dst = jsontext.AppendString(append(dst, ':'), labels[name])
	}
	return append(dst, '}')
}

// appendTime appends a time as an RFC 3339 string in UTC, exact to the nanosecond.
func appendTime(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano)
	return append(dst, '"')
}
