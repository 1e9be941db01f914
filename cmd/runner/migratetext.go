package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db/migration"
)

// migrateDocument is what --json prints: the keys of a migration job's result, and why the action failed.
type migrateDocument struct {
	Database string `json:"database"`
	*contract.Migration
	Error *migration.ErrorAnswer `json:"error,omitempty"`
}

// print prints a report, which may be missing where the action failed.
func (w *migrateWork) print(report *migration.Report, failure error) error {
	out := w.cmd.OutOrStdout()
	if w.flags.json {
		doc := migrateDocument{Database: w.database, Error: migration.AnswerError(failure)}
		if report != nil {
			doc.Migration = report.Answer(0)
		}
		return printJSON(out, doc)
	}
	code := ""
	if failure != nil {
		code = migration.AnswerError(failure).Code
	}
	switch {
	case report == nil, code == string(contract.CodeMigrationTarget):
		return nil
	case code == string(contract.CodeMigrationFolder): // the database was not looked at
		printProblems(out, report, failure)
		return nil
	case w.req.Action == migration.Status:
		return w.printStatus(out, report)
	case w.req.Action == migration.Plan && failure == nil:
		w.printPlan(out, report)
	case w.req.Action == migration.Validate && failure == nil:
		printState(out, report)
		printProblems(out, report, failure)
		if len(report.Faults) == 0 && report.Problem == "" {
			_, _ = fmt.Fprintf(out, "%s is at version %s, %s pending; nothing is wrong\n", w.database, report.After.Label,
				countOf(len(report.Pending), "file"))
		}
	case !w.req.Action.Reads():
		return w.printDone(out, report, failure)
	}
	return nil
}

// printState says in words what is under way, or was interrupted.
func printState(out io.Writer, report *migration.Report) {
	if r := report.Running; r != nil {
		text := "another session is migrating it: " + r.Holder
		if r.File != "" {
			text += fmt.Sprintf("; %s by %s since %s", r.File, who(r.Runner, r.Job), when(r.Since))
		}
		if r.Statement > 0 { // known of a file that runs statement by statement
			text += fmt.Sprintf(", statement %d of %d", r.Statement, r.Statements)
		}
		_, _ = fmt.Fprintln(out, text)
	}
	if report.Problem != "" {
		_, _ = fmt.Fprintln(out, "interrupted:", report.Problem)
	}
}

// printProblems prints what is wrong, unless the action's failure says it.
func printProblems(out io.Writer, report *migration.Report, failure error) {
	for i := range report.Faults {
		if text := report.Faults[i].String(); failure == nil || !strings.Contains(failure.Error(), text) {
			_, _ = fmt.Fprintln(out, "wrong:", text)
		}
	}
}

func (w *migrateWork) printStatus(out io.Writer, report *migration.Report) error {
	dirty := ""
	if report.Dirty && report.Running == nil {
		dirty = ", marked dirty"
	}
	_, _ = fmt.Fprintf(out, "%s is at version %s%s; the latest is %s, %s pending\n", w.database, report.After.Label, dirty,
		report.Latest.Label, countOf(len(report.Pending), "file"))
	printState(out, report)
	printProblems(out, report, nil)
	folder, _, err := w.m.Folder()
	if err != nil {
		return err
	}
	rows := statusRows(folder, report)
	if len(rows) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(out)
	return table(out, "", append([][]string{{"VERSION", "FILE", "STATE", "WHEN", "BY", "TOOK"}}, rows...))
}

// statusRows are a line for each file of the folder and, behind them, for each that was applied and is gone.
func statusRows(folder *migration.Folder, report *migration.Report) [][]string {
	applied := map[string]*migration.Change{} // by version: what made it count as applied
	last := map[string]*migration.Change{}    // by version: also what failed
	for i := range report.History {
		c := &report.History[i]
		last[c.Version.Label] = c
		switch {
		case c.State != "done":
		case c.Direction == "down", c.Direction == "forget":
			delete(applied, c.Version.Label)
		default:
			applied[c.Version.Label] = c
		}
	}
	row := func(label, file, state string, c *migration.Change) []string {
		if c == nil {
			return []string{label, file, state, "", "", ""}
		}
		return []string{label, file, state, when(c.At), who(c.Runner, c.Job), took(c.Duration)}
	}
	var rows [][]string
	for _, f := range folder.Files {
		label := f.Version.Label
		rows = append(rows, row(label, f.Name, stateOf(f, applied[label], last[label], report), applied[label]))
		delete(applied, label)
	}
	for i := range report.History {
		c := &report.History[i]
		if applied[c.Version.Label] == c {
			rows = append(rows, row(c.Version.Label, c.File, "missing", c))
		}
	}
	return rows
}

// stateOf is a file's state in a word. by is what made it count as applied, last the last that happened to its version.
func stateOf(f *migration.File, by, last *migration.Change, report *migration.Report) string {
	unfinished := last != nil && last.State != "done"
	switch {
	case unfinished && report.Running != nil && last.State == "running":
		return "running"
	case unfinished && report.Problem != "" && last == &report.History[len(report.History)-1]:
		return "interrupted"
	case by != nil && by.SHA256 != "" && by.SHA256 != f.SHA256:
		return "edited"
	case by != nil && by.Direction == "adopt":
		return "adopted"
	case by != nil:
		return "applied"
	case slices.ContainsFunc(report.Pending, func(p migration.Pending) bool { return p.File == f.Name }):
		return "pending"
	}
	return "not adopted" // another tool has applied it
}

// printPlan prints what would be run as a script with comments.
func (w *migrateWork) printPlan(out io.Writer, report *migration.Report) {
	printProblems(out, report, nil)
	if len(report.Plan) == 0 && len(report.Faults) == 0 {
		_, _ = fmt.Fprintf(out, "%s is at version %s: nothing to do\n", w.database, report.After.Label)
	}
	separator := w.m.Separator()
	for i := range report.Plan {
		p := &report.Plan[i]
		verb, how := "version", "in one transaction"
		if p.Direction == "down" {
			verb = "reverts version"
		}
		if p.Stepwise != "" {
			how = "statement by statement, because " + p.Stepwise
		}
		_, _ = fmt.Fprintf(out, "-- %s, %s %s, %s, %s\n", p.File, verb, p.Version.Label, countOf(len(p.Statements), "statement"), how)
		for j := range p.Statements {
			s, end := &p.Statements[j], ";"
			if separator != "" { // it ends a batch
				end = "\n" + separator
				if s.Times > 1 {
					end += " " + strconv.Itoa(s.Times)
				}
			}
			_, _ = fmt.Fprintf(out, "\n-- line %d\n%s%s\n", s.Line, s.SQL, end)
		}
		_, _ = fmt.Fprintln(out)
	}
}

// printDone prints what an action did and how the database stands now.
func (w *migrateWork) printDone(out io.Writer, report *migration.Report, failure error) error {
	outcomes := map[string]string{"up": "applied", "down": "reverted", "adopt": "adopted", "forget": "forgotten"}
	var rows [][]string
	for i := range report.Changes {
		c := &report.Changes[i]
		outcome := c.State
		if outcome == "done" {
			outcome = outcomes[c.Direction]
		}
		rows = append(rows, []string{c.Version.Label, c.File, outcome, took(c.Duration)})
	}
	if err := table(out, "", rows); err != nil {
		return err
	}
	for _, note := range report.Notes {
		if !slices.Contains(w.reported, note) {
			_, _ = fmt.Fprintln(out, "note:", note)
		}
	}
	if failure == nil || report.Problem == "" || !strings.Contains(failure.Error(), report.Problem) { // else it is reported by then
		printState(out, report)
	}
	printProblems(out, report, failure)
	from := ""
	if report.Before != report.After {
		from = ", from " + report.Before.Label
	}
	rest := ", nothing is pending"
	if n := len(report.Pending); n > 0 {
		rest = fmt.Sprintf("; the latest is %s, %s pending", report.Latest.Label, countOf(n, "file"))
	}
	_, err := fmt.Fprintf(out, "%s is at version %s%s%s\n", w.database, report.After.Label, from, rest)
	return err
}

func who(runner, job string) string {
	if job == "" {
		return runner
	}
	return runner + ", job " + job
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func took(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// countOf writes a number of things.
func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
