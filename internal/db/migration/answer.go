package migration

import (
	"errors"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

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
func (rep *Report) Answer(limit int) *contract.Migration {
	a := &contract.Migration{
		Action: string(rep.Action), VersionBefore: rep.Before.Label, VersionAfter: rep.After.Label, Latest: rep.Latest.Label,
		Dirty: rep.Dirty, PendingCount: len(rep.Pending), Interrupted: rep.Problem, Notes: rep.Notes,
	}
	for _, c := range firsts(rep.Changes, &a.Omitted) {
		a.Files = append(a.Files, fileAnswer(&c))
	}
	for _, p := range firsts(rep.Pending, &a.Omitted) {
		a.Pending = append(a.Pending, contract.PendingMigration{Version: p.Version.Label, File: p.File})
	}
	for _, f := range firsts(rep.Faults, &a.Omitted) {
		a.Problems = append(a.Problems, contract.MigrationProblem(f))
	}
	if r := rep.Running; r != nil {
		a.Running = &contract.MigrationSession{
			File: r.File, Statement: r.Statement, Statements: r.Statements, Runner: r.Runner, JobID: r.Job, Since: moment(r.Since),
			Session: r.Holder,
		}
	}
	addPlan(a, firsts(rep.Plan, &a.Omitted), limit)
	history := rep.History
	if n := len(history); n > maxEntries { // the latest matter more
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

func addPlan(a *contract.Migration, planned []Planned, limit int) {
	size := 0
	for i := range planned {
		p := contract.PlannedMigration{
			Version: planned[i].Version.Label, File: planned[i].File, Direction: planned[i].Direction, Stepwise: planned[i].Stepwise,
			Count: len(planned[i].Statements),
		}
		for j := range planned[i].Statements {
			part := &planned[i].Statements[j]
			if size += len(part.SQL) + statementKeys; limit > 0 && size > limit {
				a.Omitted++
				continue
			}
			statement := contract.PlannedStatement{Line: part.Line, SQL: part.SQL}
			if part.Times > 1 {
				statement.Times = part.Times
			}
			p.Statements = append(p.Statements, statement)
		}
		a.Plan = append(a.Plan, p)
	}
}

// statementKeys is about what a statement of a plan takes besides its text, bytes.
const statementKeys = 40

func fileAnswer(c *Change) contract.MigrationFile {
	return contract.MigrationFile{
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
