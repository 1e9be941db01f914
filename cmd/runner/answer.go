package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db/rowfile"
)

// answer is a result as this command reads and shows it.
type answer struct {
	raw []byte

	JobID         string           `json:"job_id"`
	Kind          string           `json:"kind"`
	Database      string           `json:"database"`
	Status        contract.Status  `json:"status"`
	Duplicate     bool             `json:"duplicate"`
	Runner        string           `json:"runner"`
	QueuedAt      string           `json:"queued_at"`
	Finished      string           `json:"finished_at"`
	Command       string           `json:"command"` // of a statement
	answerSet                      // of a query or a statement
	Sets          []answerSet      `json:"statements"` // of a transaction
	Verdict       contract.Verdict `json:"verdict"`    // of a health job
	Reasons       []string         `json:"reasons"`
	answerVersion                  // of a migration
	Error         *answerError     `json:"error"`
}

// answerVersion is what a migration has in its answer, as far as it is shown.
type answerVersion struct {
	VersionBefore string                   `json:"version_before"`
	VersionAfter  string                   `json:"version_after"`
	Files         []contract.MigrationFile `json:"files"`
	Interrupted   string                   `json:"interrupted"`
}

type answerSet struct {
	Columns      []answerColumn    `json:"columns"`
	Rows         []json.RawMessage `json:"rows"`
	RowCount     *int64            `json:"row_count"`
	RowsAffected *int64            `json:"rows_affected"`
	Object       *answerObject     `json:"rows_object"`
}

// answerObject is where rows are that have no room in the result.
type answerObject struct {
	Bucket      string `json:"bucket"`
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	Format      string `json:"format"`
	Compression string `json:"compression"`
}

type answerColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type answerError struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	EngineCode string `json:"engine_code"`
	Faults     []struct {
		Path    string `json:"path"`
		Message string `json:"message"`
	} `json:"faults"`
}

func parseAnswer(raw []byte) (*answer, error) {
	a := &answer{raw: raw}
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	return a, nil
}

// print shows an answer to a person: the status, then rows, counts or faults, each line indented.
func (a *answer) print(w io.Writer, s style, indent string) error {
	status := s.red(string(a.Status))
	if a.Status == contract.Succeeded {
		status = s.green(string(a.Status))
	}
	if a.Duplicate {
		status += s.bold(" (duplicate: the first one's answer)")
	}
	if _, err := fmt.Fprintf(w, "%s%s  %s\n", indent, status, s.dim(a.JobID)); err != nil {
		return err
	}
	if a.Command != "" || a.RowsAffected != nil {
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, strings.TrimPrefix(a.Command+", "+a.counts(), ", "))
	}
	if err := a.answerSet.print(w, s, indent+"  "); err != nil {
		return err
	}
	a.printPlace(w, s, indent, 0, &a.answerSet)
	for i := range a.Sets {
		_, _ = fmt.Fprintf(w, "%s  statement %d: %s\n", indent, i+1, a.Sets[i].counts())
		if err := a.Sets[i].print(w, s, indent+"    "); err != nil {
			return err
		}
		a.printPlace(w, s, indent+"  ", i+1, &a.Sets[i])
	}
	a.answerVersion.print(w, indent+"  ")
	if a.Verdict != "" {
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, s.bold(string(a.Verdict)))
	}
	for _, reason := range a.Reasons {
		_, _ = fmt.Fprintf(w, "%s    %s\n", indent, reason)
	}
	a.printError(w, indent+"  ")
	return nil
}

// printPlace returns where rows are that are not in the result, and how to get them.
func (a *answer) printPlace(w io.Writer, s style, indent string, statement int, set *answerSet) {
	if set.Object == nil {
		return
	}
	which := ""
	if statement > 0 {
		which = " --statement " + strconv.Itoa(statement)
	}
	o := set.Object
	_, _ = fmt.Fprintf(w, "%s  %d rows, %d bytes of %s in the object store\n", indent, *set.RowCount, o.Size, o.Format)
	_, _ = fmt.Fprintf(w, "%s  %s\n", indent, s.dim("runner result get "+a.Database+" "+a.JobID+which+" --output rows"+rowfile.Extension(o.Format, o.Compression)))
}

// print shows what a migration did; nothing for other kinds.
func (a *answerVersion) print(w io.Writer, indent string) {
	if a.VersionAfter == "" {
		return
	}
	from := ""
	if a.VersionBefore != a.VersionAfter {
		from = ", from " + a.VersionBefore
	}
	_, _ = fmt.Fprintf(w, "%sversion %s%s\n", indent, a.VersionAfter, from)
	for i := range a.Files {
		_, _ = fmt.Fprintf(w, "%s%s: %s %s, %d ms\n", indent, a.Files[i].File, a.Files[i].Direction, a.Files[i].State, a.Files[i].DurationMS)
	}
	if a.Interrupted != "" {
		_, _ = fmt.Fprintf(w, "%sinterrupted: %s\n", indent, a.Interrupted)
	}
}

func (a *answer) printError(w io.Writer, indent string) {
	if a.Error == nil {
		return
	}
	code := a.Error.Code
	if a.Error.EngineCode != "" {
		code += " (" + a.Error.EngineCode + ")"
	}
	_, _ = fmt.Fprintf(w, "%s%s: %s\n", indent, code, a.Error.Message)
	for _, fault := range a.Error.Faults {
		_, _ = fmt.Fprintf(w, "%s  %s: %s\n", indent, orWhole(fault.Path), fault.Message)
	}
}

func orWhole(path string) string {
	if path == "" {
		return "(whole body)"
	}
	return path
}

func (r *answerSet) counts() string {
	if r.RowsAffected == nil {
		return "done"
	}
	if *r.RowsAffected == 1 {
		return "1 row affected"
	}
	return strconv.FormatInt(*r.RowsAffected, 10) + " rows affected"
}

// print shows the rows as a table.
func (r *answerSet) print(w io.Writer, s style, indent string) error {
	if r.Columns == nil || r.Object != nil {
		return nil
	}
	header, types := make([]string, len(r.Columns)), make([]string, len(r.Columns))
	for i, c := range r.Columns {
		header[i], types[i] = c.Name, c.Type
	}
	rows := [][]string{header, types}
	for _, raw := range r.Rows {
		cells, err := r.cells(raw)
		if err != nil {
			return err
		}
		rows = append(rows, cells)
	}
	if err := tableWithHead(w, s, indent, rows); err != nil {
		return err
	}
	if len(r.Rows) == 0 {
		_, _ = fmt.Fprintf(w, "%s%s\n", indent, s.dim("(no rows)"))
	}
	return nil
}

// cells reads one row, which is a list or an object.
func (r *answerSet) cells(raw json.RawMessage) ([]string, error) {
	values := make([]json.RawMessage, 0, len(r.Columns))
	if len(raw) > 0 && raw[0] == '[' {
		if err := json.Unmarshal(raw, &values); err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
	} else {
		var byName map[string]json.RawMessage
		if err := json.Unmarshal(raw, &byName); err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		for _, c := range r.Columns {
			values = append(values, byName[c.Name])
		}
	}
	cells := make([]string, 0, len(values))
	for _, v := range values {
		cells = append(cells, cell(v))
	}
	return cells, nil
}

// cell shows a value: text without its quotes, everything else as it is.
func cell(v json.RawMessage) string {
	var text string
	if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &text) == nil {
		quoted := strconv.QuoteToGraphic(text) // line breaks and control characters as escapes
		return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	}
	return string(v)
}
