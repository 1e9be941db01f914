package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	maxRows     = 100              // of an answer
	maxBytes    = 256 << 10        // of an answer's rows
	rowsTimeout = 10 * time.Second // of reading rows that are not in their result
)

// answer is the text of a tool's answer.
type answer struct {
	Status    contract.Status `json:"status,omitempty"` // missing: not known
	JobID     string          `json:"job_id,omitempty"`
	Duplicate bool            `json:"duplicate,omitempty"` // an earlier call had this request_id, and this is its answer
	Note      string          `json:"note,omitempty"`
	Call      *call           `json:"call,omitempty"`
	Error     *failure        `json:"error,omitempty"`
	set
	Statements []set `json:"statements,omitempty"`
}

type call struct {
	Name     string `json:"name"`
	Revision string `json:"revision,omitempty"`
}

type failure struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	Engine    string  `json:"engine_code,omitempty"`
	Retryable bool    `json:"retryable,omitempty"`
	Faults    []fault `json:"faults,omitempty"`
}

type fault struct {
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// set is what one statement returned.
type set struct {
	RowsAffected *int64            `json:"rows_affected,omitempty"`
	Columns      []column          `json:"columns,omitempty"`
	Rows         []json.RawMessage `json:"rows,omitempty"`
	RowCount     *int64            `json:"row_count,omitempty"`    // of all rows
	RowsOmitted  int64             `json:"rows_omitted,omitempty"` // of those, that are not here
	Omitted      string            `json:"omitted,omitempty"`      // why, if not for their number or size
	More         []set             `json:"more,omitempty"`
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// answerOf makes the answer of a job's result.
func (s *server) answerOf(ctx context.Context, r *client.Result, duplicate bool) *sdk.CallToolResult {
	p := portion{server: s, rows: maxRows, bytes: maxBytes}
	a := &answer{Status: r.Status, JobID: r.JobID, Duplicate: duplicate, set: p.set(ctx, &r.Set)}
	if duplicate {
		a.Note = "an earlier call had this request_id; this is its answer, and nothing was done again"
	}
	if r.Call != nil {
		a.Call = &call{Name: r.Call.Name, Revision: r.Call.Revision}
	}
	for i := range r.Statements {
		a.Statements = append(a.Statements, p.set(ctx, &r.Statements[i]))
	}
	if e := r.Error; e != nil {
		a.Error = &failure{Code: string(e.Code), Message: e.Message, Engine: e.EngineCode, Retryable: e.Retryable}
		for _, f := range e.Faults {
			a.Error.Faults = append(a.Error.Faults, fault{Path: f.Path, Message: f.Message})
		}
	}
	return a.result(r.Status != contract.Succeeded)
}

// refusal is the answer of a call that has no result.
func refusal(id, code, message string, retryable bool) *sdk.CallToolResult {
	return (&answer{JobID: id, Error: &failure{Code: code, Message: message, Retryable: retryable}}).result(true)
}

// result encodes the answer as a text.
func (a *answer) result(failed bool) *sdk.CallToolResult {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	text := `{"error":{"code":"internal_error","message":"the answer cannot be written"}}`
	if err := encoder.Encode(a); err == nil {
		text = string(visible(bytes.TrimSpace(b.Bytes())))
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}, IsError: failed}
}

// portion is what an answer may still take of rows.
type portion struct {
	*server
	rows, bytes int
}

var errEnough = errors.New("no room for more rows")

// take returns the error errEnough if a row has no room any more.
func (p *portion) take(to *set, row json.RawMessage) error {
	if p.rows == 0 || len(row) > p.bytes {
		p.rows = 0
		return errEnough
	}
	p.rows, p.bytes = p.rows-1, p.bytes-len(row)
	to.Rows = append(to.Rows, row)
	return nil
}

func (p *portion) set(ctx context.Context, from *contract.Set) set {
	out := set{RowsAffected: from.RowsAffected}
	for _, c := range from.Columns {
		out.Columns = append(out.Columns, column{c.Name, c.Type})
	}
	if from.Columns != nil {
		out.RowCount = &from.RowCount
		err := from.EachRow(func(row json.RawMessage) error { return p.take(&out, row) })
		if from.Object != nil {
			err = p.fetch(ctx, &out, from.Object)
		}
		if err != nil && !errors.Is(err, errEnough) {
			out.Omitted = err.Error()
		}
		out.RowsOmitted = from.RowCount - int64(len(out.Rows))
	}
	for i := range from.More {
		out.More = append(out.More, p.set(ctx, &from.More[i]))
	}
	return out
}

// fetch takes rows that are not in their result: lines of JSON.
func (p *portion) fetch(ctx context.Context, to *set, object *contract.RowsObject) error {
	if object.Format != "ndjson" || object.Compression != "" && object.Compression != "none" {
		return fmt.Errorf("the rows are %s in the object store", object.Format)
	}
	lines := &lines{each: func(row json.RawMessage) error { return p.take(to, row) }}
	err := p.guard(ctx, rowsTimeout, p.jetStream("STREAM.INFO.OBJ_"+object.Bucket), func(ctx context.Context) error {
		return p.client.Rows(ctx, object, lines)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return errors.New("the rows could not be read from the object store; ask for fewer, or grant the user permission to read them")
	}
	return err
}

// lines is a writer that takes lines of JSON.
type lines struct {
	each func(json.RawMessage) error
	rest []byte
}

// Write takes the lines that are complete.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte{'\n'})
		if !found && len(l.rest) > maxBytes {
			return 0, errEnough
		}
		if !found {
			return len(p), nil
		}
		if err := l.each(bytes.Clone(line)); err != nil {
			return 0, err
		}
		l.rest = rest
	}
}
