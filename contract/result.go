package contract

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"dbrunner/internal/jsontext"
)

// Result is the result of a job. Its members are encoded in the order of the fields, and those that say nothing are left
// out, so that equal results are equal bytes.
type Result struct {
	Version     int               `json:"version"`
	Duplicate   bool              `json:"duplicate"`    // an earlier message's result, repeated for this one
	RowsExpired bool              `json:"rows_expired"` // the object with the rows is gone
	JobID       string            `json:"job_id"`
	Kind        string            `json:"kind"`
	Database    string            `json:"database"`
	Effect      Effect            `json:"effect"` // empty if it could not be read
	Status      Status            `json:"status"`
	Hash        Hash              `json:"request_hash"` // nil if the body could not be understood
	Sequence    uint64            `json:"sequence"`     // of the job's message in its stream
	Deliveries  uint64            `json:"deliveries"`
	Attempts    uint64            `json:"attempts"` // executions started by this delivery
	Runner      string            `json:"runner"`
	QueuedAt    time.Time         `json:"queued_at"`  // time of the job's message in its stream
	StartedAt   time.Time         `json:"started_at"` // zero: not started by this delivery
	FinishedAt  time.Time         `json:"finished_at"`
	Labels      map[string]string `json:"labels"`
	Call        *Call             `json:"call"` // nil unless the job runs a statement of a catalog
	Answer
	Error *Error `json:"error"` // nil if the job succeeded
}

// Call is the statement of a catalog that a job ran.
type Call struct {
	Name     string `json:"name"`
	Revision string `json:"revision"` // of the definition; empty if the runner has none of this name
}

// Answer is what a job's work returned: the members of a result that depend on the kind.
type Answer struct {
	Engine string `json:"engine"` // the engine whose names the columns' types are; empty if there are no columns
	Set
	Statements []Set `json:"statements"` // of a transaction, in order

	Request      json.RawMessage `json:"request"`       // of a dry run: what it executed, as given
	EffectDigest string          `json:"effect_digest"` // of a dry run: identifies what it executed, its counts and the rows that it returned
	*Health                      // nil unless the job is of kind health
	*Migration                   // nil unless the job is of kind migration
}

// Set is what one statement did.
type Set struct {
	Command      string          `json:"command"`       // the server's command tag; kind statement only
	RowsAffected *int64          `json:"rows_affected"` // nil for kind query
	Columns      []Column        `json:"columns"`       // nil: the statement returns no rows
	Object       *RowsObject     `json:"rows_object"`   // where the rows are if they are not in Rows
	Rows         json.RawMessage `json:"rows"`          // an array with one element per row
	RowCount     int64           `json:"row_count"`     // rows in Rows or in Object, with those that are left out
	RowsOmitted  int64           `json:"rows_omitted"`  // rows that the result of a dry run leaves out
	More         []Set           `json:"more"`          // further result sets and counts of the statement
}

// Column is a column of a result: its name and the engine's name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// RowsObject is where the rows of a statement are that have no room in the result: an object of the object store.
type RowsObject struct {
	Bucket      string `json:"bucket"`
	Name        string `json:"name"`
	Size        int64  `json:"size"` // bytes
	RowCount    int64  `json:"row_count"`
	Digest      string `json:"digest"` // as the object store writes it
	Format      string `json:"format"`
	Compression string `json:"compression"`
}

// Error is why a job did not succeed.
type Error struct {
	Code       Code    `json:"code"`
	Message    string  `json:"message"`     // has no parameter values and no secrets
	EngineCode string  `json:"engine_code"` // SQLSTATE or the engine's number; empty if the database did not answer
	Retryable  bool    `json:"retryable"`   // the same job may succeed under another id
	Faults     []Fault `json:"faults"`      // what is wrong with the body
}

// leastMessage is how much of a message Shorten keeps, bytes.
const leastMessage = 512

// Shorten makes the error's encoding smaller: it leaves out half of the faults, then half of the message. It returns false
// when nothing more can go. The error may be nil.
func (e *Error) Shorten() bool {
	switch {
	case e == nil:
		return false
	case len(e.Faults) > 1:
		e.Faults = e.Faults[:len(e.Faults)/2]
	case len(e.Message) > leastMessage+len("…"):
		e.Message = jsontext.Clip(e.Message, max(len(e.Message)/2, leastMessage))
	default:
		return false
	}
	return true
}

// Hash identifies a request, however its body is written. In JSON it is hexadecimal.
type Hash []byte

// MarshalText returns the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads a hash in hexadecimal.
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

// ReadResult reads an encoded result with all of its rows. ReadHead is faster where they do not matter.
func ReadResult(body []byte) (*Result, error) {
	r := &Result{}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	return r, nil
}

// RowSet is a statement of a result that returned rows.
type RowSet struct {
	Set
	Statement int // of a transaction, from 0
}

// RowSets returns all sets of the result that have columns, in order.
func (r *Result) RowSets() []RowSet {
	sets := r.appendSets(nil, 0)
	for i := range r.Statements {
		sets = r.Statements[i].appendSets(sets, i)
	}
	return sets
}

func (s *Set) appendSets(sets []RowSet, statement int) []RowSet {
	if s.Columns != nil {
		sets = append(sets, RowSet{Set: *s, Statement: statement})
	}
	for i := range s.More {
		sets = s.More[i].appendSets(sets, statement)
	}
	return sets
}

// EachRow calls each with every row in the result, an object or array, until it returns an error.
func (s *Set) EachRow(each func(row json.RawMessage) error) error {
	if len(s.Rows) == 0 {
		return nil
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(s.Rows, &rows); err != nil {
		return fmt.Errorf("read the rows of a result: %w", err)
	}
	for _, row := range rows {
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

// keysOf returns the keys of a struct's members in the order of its fields.
func keysOf(of reflect.Type) []string {
	var keys []string
	for field := range of.Fields() {
		if key := field.Tag.Get("json"); key != "" {
			keys = append(keys, `"`+key+`":`)
		}
	}
	return keys
}
