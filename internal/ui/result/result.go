// Package result makes what the operator's page shows of a job's result: the steps of its life, what its outcome means for the database, its
// statements, and its rows as far as they are shown.
package result

import (
	"encoding/json"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/format"
)

// Step is a moment in a job's life, and how long it took until the next one.
type Step struct {
	Name  string
	At    time.Time
	Until string
}

// Steps are the moments of a job's life.
func Steps(r *client.Result) []Step {
	first, done := Step{Name: "queued", At: r.QueuedAt}, Step{Name: string(r.Status), At: r.FinishedAt}
	if r.StartedAt.IsZero() {
		first.Until = format.Period(r.FinishedAt.Sub(r.QueuedAt))
		return []Step{first, done}
	}
	first.Until = format.Period(r.StartedAt.Sub(r.QueuedAt))
	return []Step{first, {Name: "started", At: r.StartedAt, Until: format.Period(r.FinishedAt.Sub(r.StartedAt))}, done}
}

// Statement is what one statement did.
type Statement struct {
	Number   int
	Command  string
	Affected string
	Rows     int64
	Object   string
}

// Statements are those of a result.
func Statements(r *client.Result) (out []Statement) {
	sets := r.Statements
	if len(sets) == 0 && (r.Columns != nil || r.RowsAffected != nil) {
		sets = []contract.Set{r.Set}
	}
	for i := range sets {
		row := Statement{Number: i + 1, Command: sets[i].Command, Rows: sets[i].RowCount, Affected: "–"}
		if sets[i].RowsAffected != nil {
			row.Affected = format.Number(*sets[i].RowsAffected)
		}
		if o := sets[i].Object; o != nil {
			row.Object = format.Size(o.Size) + " of " + o.Format + " in the object store"
		}
		out = append(out, row)
	}
	return out
}

// Table is a set of rows, as far as it is shown.
type Table struct {
	Statement int
	Columns   []contract.Column
	Rows      [][]string
	More      int64
}

// Meaning is what the outcome means for the database.
func Meaning(r *client.Result) string {
	retry := " The same job under another id may succeed."
	if r.Error == nil || !r.Error.Retryable {
		retry = ""
	}
	switch r.Status {
	case contract.Succeeded:
		if r.Effect == contract.RolledBack {
			return "It was a dry run: it was executed and rolled back; nothing of it is there."
		}
		return "It took effect; its result is stored."
	case contract.Rejected:
		return "It was never executed; nothing of it is there."
	case contract.Failed:
		switch r.Kind {
		case "statement":
			return "The database refused or stopped it; a part of its effect may be there." + retry
		case "migration":
			return "Files before the one that failed stay applied." + retry
		}
		return "It was rolled back; nothing of it is there." + retry
	case contract.Canceled, contract.Expired:
		return "It did not take effect."
	case contract.Unknown:
		return "It MAY have taken effect, completely or in part: look at the database before you do anything."
	}
	return ""
}

// The bounds of rows that are shown; the download has all.
const (
	tableRows  = 100
	tableCell  = 200
	tableWidth = 30
)

// Tables are the rows of a result, as far as they are shown.
func Tables(r *client.Result) []Table {
	var out []Table
	for _, set := range r.RowSets() {
		t := Table{Statement: set.Statement + 1, Columns: set.Columns[:min(len(set.Columns), tableWidth)]}
		_ = set.EachRow(func(raw json.RawMessage) error { // what cannot be read is not shown
			if len(t.Rows) < tableRows {
				t.Rows = append(t.Rows, cellsOf(raw, t.Columns))
			}
			return nil
		})
		t.More = set.RowCount - int64(len(t.Rows))
		out = append(out, t)
	}
	return out
}

// cellsOf are the texts of a row, in the order of its columns.
func cellsOf(raw json.RawMessage, columns []contract.Column) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return nil
		}
		for _, c := range columns {
			list = append(list, object[c.Name])
		}
	}
	out := make([]string, 0, len(columns))
	for _, value := range list[:min(len(list), len(columns))] {
		text := string(value)
		var s string
		if json.Unmarshal(value, &s) == nil && text != "null" {
			text = s
		}
		out = append(out, format.Clip(text, tableCell))
	}
	return out
}
