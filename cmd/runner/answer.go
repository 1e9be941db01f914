package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/db/rowfile"
	"dbrunner/internal/plaintext"
)

// printAnswer prints a result, to a person or as it is.
func printAnswer(w io.Writer, r *client.Result, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", r.Body)
		return err
	}
	if showsDryRun(r) {
		if err := printDryRun(w, styleFor(w), r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "  commit it with: runner approve %s %s\n", r.Database, r.JobID)
		return err
	}
	return printResult(w, styleFor(w), "", r)
}

// printResult shows a result to a person: the status, then rows, counts or errors, each line indented.
func printResult(w io.Writer, s style, indent string, r *client.Result) error {
	status := s.red(string(r.Status))
	if r.Status == contract.Succeeded {
		status = s.green(string(r.Status))
	}
	if r.Duplicate {
		status += s.bold(" (duplicate: the first one's answer)")
	}
	if _, err := fmt.Fprintf(w, "%s%s  %s\n", indent, status, s.dim(r.JobID)); err != nil {
		return err
	}
	if r.Command != "" || r.RowsAffected != nil {
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, strings.TrimPrefix(plaintext.Visible(r.Command, "")+", "+counts(&r.Set), ", "))
	}
	if err := printRows(w, s, indent+"  ", &r.Set); err != nil {
		return err
	}
	printPlace(w, s, indent, r, &r.Set, "")
	for i := range r.Statements {
		set := &r.Statements[i]
		_, _ = fmt.Fprintf(w, "%s  statement %d: %s\n", indent, i+1, counts(set))
		if err := printRows(w, s, indent+"    ", set); err != nil {
			return err
		}
		printPlace(w, s, indent+"  ", r, set, " --statement "+strconv.Itoa(i+1))
	}
	if m := r.Migration; m != nil && m.VersionAfter != "" {
		from := ""
		if m.VersionBefore != m.VersionAfter {
			from = ", from " + m.VersionBefore
		}
		_, _ = fmt.Fprintf(w, "%s  version %s%s\n", indent, m.VersionAfter, from)
		for i := range m.Files {
			_, _ = fmt.Fprintf(w, "%s  %s: %s %s, %d ms\n", indent, plaintext.Visible(m.Files[i].File, ""), m.Files[i].Direction, m.Files[i].State, m.Files[i].DurationMS)
		}
		if m.Interrupted != "" {
			_, _ = fmt.Fprintf(w, "%s  interrupted: %s\n", indent, plaintext.Visible(m.Interrupted, ""))
		}
	}
	if r.Health != nil {
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, s.bold(string(r.Verdict)))
		for _, reason := range r.Reasons {
			_, _ = fmt.Fprintf(w, "%s    %s\n", indent, plaintext.Visible(reason, ""))
		}
	}
	if r.Error != nil {
		code := string(r.Error.Code)
		if r.Error.EngineCode != "" {
			code += " (" + r.Error.EngineCode + ")"
		}
		if len(r.Error.Faults) == 0 {
			code += ": " + r.Error.Message
		}
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, plaintext.Visible(code, ""))
		for _, fault := range r.Error.Faults {
			_, _ = fmt.Fprintf(w, "%s    %s\n", indent, plaintext.Visible(cmp.Or(fault.Path, "(whole body)")+": "+fault.Message, ""))
		}
	}
	return nil
}

// printPlace prints where rows are that are not in the result, and how to get them. which is the flag that chooses them.
func printPlace(w io.Writer, s style, indent string, r *client.Result, set *contract.Set, which string) {
	if o := set.Object; o != nil {
		_, _ = fmt.Fprintf(w, "%s  %d rows, %d bytes of %s in the object store\n", indent, set.RowCount, o.Size, o.Format)
		_, _ = fmt.Fprintf(w, "%s  %s\n", indent, s.dim("runner result get "+r.Database+" "+r.JobID+which+" --output rows"+rowfile.Extension(o.Format, o.Compression)))
	}
}

func counts(set *contract.Set) string {
	switch {
	case set.RowsAffected == nil:
		return "done"
	case *set.RowsAffected == 1:
		return "1 row affected"
	}
	return strconv.FormatInt(*set.RowsAffected, 10) + " rows affected"
}

// printRows shows rows that are in the result as a table.
func printRows(w io.Writer, s style, indent string, set *contract.Set) error {
	if set.Columns == nil || set.Object != nil {
		return nil
	}
	header, types := make([]string, len(set.Columns)), make([]string, len(set.Columns))
	for i, c := range set.Columns {
		header[i], types[i] = c.Name, c.Type
	}
	rows := [][]string{header, types}
	err := set.EachRow(func(row json.RawMessage) error {
		cells, err := cellsOf(set.Columns, row)
		rows = append(rows, cells)
		return err
	})
	if err != nil {
		return err
	}
	if err := table(w, indent, rows, s.bold, s.dim); err != nil {
		return err
	}
	if len(rows) == 2 {
		_, _ = fmt.Fprintf(w, "%s%s\n", indent, s.dim("(no rows)"))
	}
	return nil
}

// cellsOf reads one row, which is a list or an object. Text is without its quotes, everything else as it is.
func cellsOf(columns []contract.Column, row json.RawMessage) ([]string, error) {
	var values []json.RawMessage
	var err error
	if len(row) > 0 && row[0] == '[' {
		err = json.Unmarshal(row, &values)
	} else {
		var byName map[string]json.RawMessage
		err = json.Unmarshal(row, &byName)
		for _, c := range columns {
			values = append(values, byName[c.Name])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read a row: %w", err)
	}
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = string(v)
		var text string
		if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &text) == nil {
			quoted := strconv.QuoteToGraphic(text) // line breaks and control characters as escapes
			cells[i] = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
		}
	}
	return cells, nil
}
