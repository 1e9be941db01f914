package migration

import (
	"errors"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Answer is a report as JSON: the keys of a migration job's result, and what the command line prints.
type Answer struct {
	Action        Action          `json:"action"`
	VersionBefore string          `json:"version_before"`
	VersionAfter  string          `json:"version_after"`
	Latest        string          `json:"latest"`
	Dirty         bool            `json:"dirty"`
	Files         []FileAnswer    `json:"files,omitempty"`   // that this action ran, adopted or forgot, in their order
	Pending       []PendingAnswer `json:"pending,omitempty"` // that are not applied
	PendingCount  int             `json:"pending_count"`
	Problems      []ProblemAnswer `json:"problems,omitempty"`    // what keeps the next migration from being run
	Interrupted   string          `json:"interrupted,omitempty"` // what a migration that did not end has left, and what to do
	Running       *RunningAnswer  `json:"running,omitempty"`     // a migration that another session runs
	Notes         []string        `json:"notes,omitempty"`       // what was mended or set besides the files
	Plan          []PlanAnswer    `json:"plan,omitempty"`
	History       []FileAnswer    `json:"history,omitempty"` // of action status, oldest first
	// Omitted is how many entries of the lists are left out, and statements of the plan, to keep the answer in its bounds.
	Omitted int `json:"omitted,omitempty"`
}

// FileAnswer is a file that was run, adopted or forgotten.
type FileAnswer struct {
	Version    string `json:"version"`
	File       string `json:"file"`
	Direction  string `json:"direction"` // up, down, adopt, forget
	State      string `json:"state"`     // done, failed, running
	SHA256     string `json:"sha256,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Runner     string `json:"runner"`
	JobID      string `json:"job_id,omitempty"`
	At         string `json:"at"`
}

// PendingAnswer is a file that is not applied.
type PendingAnswer struct {
	Version string `json:"version"`
	File    string `json:"file"`
}

// ProblemAnswer is one thing that keeps a migration from being run.
type ProblemAnswer struct {
	File    string `json:"file,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// RunningAnswer is a migration under way in another session.
type RunningAnswer struct {
	File       string `json:"file,omitempty"`
	Statement  int    `json:"statement,omitempty"`
	Statements int    `json:"statements,omitempty"`
	Runner     string `json:"runner,omitempty"`
	JobID      string `json:"job_id,omitempty"`
	Since      string `json:"since,omitempty"`
	Session    string `json:"session"`
}

// PlanAnswer is a file that would be run.
type PlanAnswer struct {
	Version    string            `json:"version"`
	File       string            `json:"file"`
	Direction  string            `json:"direction"`
	Stepwise   string            `json:"stepwise,omitempty"` // why its statements take effect one by one
	Count      int               `json:"statement_count"`
	Statements []StatementAnswer `json:"statements,omitempty"`
}

// StatementAnswer is a statement, or batch, of a plan.
type StatementAnswer struct {
	Line  int    `json:"line"`
	SQL   string `json:"sql"`
	Times int    `json:"times,omitempty"` // where it is sent more than once
}

// ErrorAnswer is why an action failed.
type ErrorAnswer struct {
	Code       string `json:"code"` // stable
	Message    string `json:"message"`
	EngineCode string `json:"engine_code,omitempty"` // SQLSTATE, or the engine's number
}

// AnswerError returns an action's error as JSON; nil if there is none.
func AnswerError(err error) *ErrorAnswer {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*db.Error](err)
	if !ok {
		return &ErrorAnswer{Code: "internal_error", Message: err.Error()}
	}
	if e.Class == db.ClassCanceled {
		return &ErrorAnswer{Code: "cancelled", Message: e.Message}
	}
	return &ErrorAnswer{Code: string(e.Code), Message: e.Message, EngineCode: e.EngineCode}
}

// maxEntries bounds the lists of an answer.
const maxEntries = 500

// Answer returns the report as JSON. The statements of a plan take at most limit bytes; 0: no bound.
func (rep *Report) Answer(limit int) *Answer {
	a := &Answer{
		Action: rep.Action, VersionBefore: rep.Before.Label, VersionAfter: rep.After.Label, Latest: rep.Latest.Label,
		Dirty: rep.Dirty, PendingCount: len(rep.Pending), Interrupted: rep.Problem, Notes: rep.Notes,
	}
	for _, c := range firsts(rep.Changes, &a.Omitted) {
		a.Files = append(a.Files, fileAnswer(&c))
	}
	for _, p := range firsts(rep.Pending, &a.Omitted) {
		a.Pending = append(a.Pending, PendingAnswer{Version: p.Version.Label, File: p.File})
	}
	for _, f := range firsts(rep.Faults, &a.Omitted) {
		a.Problems = append(a.Problems, ProblemAnswer(f))
	}
	if r := rep.Running; r != nil {
		a.Running = &RunningAnswer{
			File: r.File, Statement: r.Statement, Statements: r.Statements, Runner: r.Runner, JobID: r.Job, Since: moment(r.Since),
			Session: r.Holder,
		}
	}
	a.plan(firsts(rep.Plan, &a.Omitted), limit)
	history := rep.History
	if n := len(history); n > maxEntries { // the latest tell more
		a.Omitted += n - maxEntries
		history = history[n-maxEntries:]
	}
	for _, c := range history {
		a.History = append(a.History, fileAnswer(&c))
	}
	return a
}

// firsts returns the first entries of a list and counts the others.
func firsts[T any](list []T, omitted *int) []T {
	if len(list) > maxEntries {
		*omitted += len(list) - maxEntries
		list = list[:maxEntries]
	}
	return list
}

func (a *Answer) plan(planned []Planned, limit int) {
	size := 0
	for i := range planned {
		p := PlanAnswer{
			Version: planned[i].Version.Label, File: planned[i].File, Direction: planned[i].Direction, Stepwise: planned[i].Stepwise,
			Count: len(planned[i].Statements),
		}
		for j := range planned[i].Statements {
			part := &planned[i].Statements[j]
			if size += len(part.SQL) + statementKeys; limit > 0 && size > limit {
				a.Omitted++
				continue
			}
			p.Statements = append(p.Statements, statementAnswer(part))
		}
		a.Plan = append(a.Plan, p)
	}
}

// statementKeys is about what a statement of a plan takes besides its text, bytes.
const statementKeys = 40

func statementAnswer(part *dialect.Part) StatementAnswer {
	s := StatementAnswer{Line: part.Line, SQL: part.SQL}
	if part.Times > 1 {
		s.Times = part.Times
	}
	return s
}

func fileAnswer(c *Change) FileAnswer {
	return FileAnswer{
		Version: c.Version.Label, File: c.File, Direction: c.Direction, State: c.State, SHA256: c.SHA256,
		DurationMS: c.Duration.Milliseconds(), Runner: c.Runner, JobID: c.Job, At: moment(c.At),
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
