package ui

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

// jobPage is everything about one job.
func (s *screens) jobPage(r *http.Request) *page {
	database, id := r.PathValue("db"), r.PathValue("id")
	if !contract.ValidName(database) || !contract.ValidResultID(id) {
		return nil
	}
	key := func(panel string) string { return "job " + database + " " + id + " " + panel }
	return &page{Title: id, Heading: id, Database: database, Screen: "job", Panels: []panel{
		{ID: "result", Key: key("result"), Block: "result", Load: func(ctx context.Context) (any, error) { return s.loadResult(ctx, database, id) }},
		{ID: "running", Title: "In flight", Key: key("running"), Block: "running", Load: func(ctx context.Context) (any, error) { return s.loadRunning(ctx, database, id) }},
		{ID: "dead", Title: "Dead letters of this job", Key: key("dead"), Block: "deadlist", Load: func(ctx context.Context) (any, error) {
			return s.loadDeadList(ctx, deadFilter{Database: database, JobID: id})
		}},
	}}
}

// findJob leads from the search field to the job.
func (s *Server) findJob(w http.ResponseWriter, r *http.Request) {
	database, id := r.PathValue("db"), strings.TrimSpace(r.FormValue("id"))
	if !contract.ValidName(database) || !contract.ValidResultID(id) {
		s.notFound(w, r)
		return
	}
	http.Redirect(w, r, "/db/"+database+"/job/"+url.PathEscape(id), http.StatusSeeOther)
}

// resultView is a job's result.
type resultView struct {
	*client.Result
	Database, ID string
	Missing      bool
	Recorded     bool // the stream has it no more: it is the ledger's
	Note         string
	Steps        []step
	Meaning      string
	Labels       []string
	Statements   []statementView
	Tables       []tableView
	Size         int
}

// step is a moment in a job's life, and how long it took until the next one.
type step struct {
	Name  string
	At    time.Time
	Until string
}

type statementView struct {
	Number   int
	Command  string
	Affected string
	Rows     int64
	Object   string
}

// tableView is a set of rows, as far as it is shown.
type tableView struct {
	Statement int
	Columns   []contract.Column
	Rows      [][]string
	More      int64
}

func (s *screens) loadResult(ctx context.Context, database, id string) (any, error) {
	view := &resultView{Database: database, ID: id}
	stream := s.source.Subjects.ResultsStream(database)
	var r *client.Result
	err := s.source.UnlessDenied(ctx, stream, []string{s.source.API + "STREAM.MSG.GET." + stream}, func(ctx context.Context) (err error) {
		r, err = s.source.Client.LatestResult(ctx, database, id)
		return err
	})
	var unknown *client.UnknownDatabaseError
	switch {
	case errors.As(err, &unknown):
		return nil, &fleet.APIError{Code: fleet.NotFound, Description: "there is no database " + database + " here: the stream " + unknown.Stream + " is missing"}
	case errors.Is(err, client.ErrNoResult):
		err = s.source.UnlessDenied(ctx, "the ledger", []string{s.source.Subjects.API("result." + database + "." + id)}, func(ctx context.Context) (err error) {
			r, err = s.source.Client.RecordedResult(ctx, database, id)
			return err
		})
		if err == nil {
			view.Recorded = true
			break
		}
		view.Missing = true
		if !errors.Is(err, client.ErrNoResult) {
			view.Note = "The ledger was not read: " + problem(err)
		}
		return view, nil
	case err != nil:
		return nil, err
	}
	view.Result, view.Size = r, len(r.Body)
	view.fill(s.opts.ShowRows)
	return view, nil
}

// fill makes what is shown of the result.
func (v *resultView) fill(rows bool) {
	r := v.Result
	v.Steps = []step{{Name: "queued", At: r.QueuedAt}}
	last := &v.Steps[0]
	if !r.StartedAt.IsZero() {
		last.Until = format.Period(r.StartedAt.Sub(r.QueuedAt))
		v.Steps = append(v.Steps, step{Name: "started", At: r.StartedAt, Until: format.Period(r.FinishedAt.Sub(r.StartedAt))})
	} else {
		last.Until = format.Period(r.FinishedAt.Sub(r.QueuedAt))
	}
	v.Steps = append(v.Steps, step{Name: string(r.Status), At: r.FinishedAt})
	v.Meaning = meaning(r)
	for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
		v.Labels = append(v.Labels, name+"="+r.Labels[name])
	}
	sets := r.Statements
	if len(sets) == 0 && (r.Columns != nil || r.RowsAffected != nil) {
		sets = []contract.Set{r.Set}
	}
	for i := range sets {
		row := statementView{Number: i + 1, Command: sets[i].Command, Rows: sets[i].RowCount, Affected: "–"}
		if sets[i].RowsAffected != nil {
			row.Affected = format.Number(*sets[i].RowsAffected)
		}
		if o := sets[i].Object; o != nil {
			row.Object = format.Size(o.Size) + " of " + o.Format + " in the object store"
		}
		v.Statements = append(v.Statements, row)
	}
	if rows {
		v.Tables = tablesOf(r)
	}
}

// meaning is what the outcome means for the database.
func meaning(r *client.Result) string {
	retry := " The same job under another id may succeed."
	if r.Error == nil || !r.Error.Retryable {
		retry = ""
	}
	switch r.Status {
	case contract.Succeeded:
		if r.Effect == contract.RolledBack {
			return "It was a dry run: it was executed and rolled back; nothing of it is there. To commit the same effect: runner approve " +
				r.Database + " " + r.JobID
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

func tablesOf(r *client.Result) []tableView {
	var out []tableView
	for _, set := range r.RowSets() {
		t := tableView{Statement: set.Statement + 1, Columns: set.Columns[:min(len(set.Columns), tableWidth)]}
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

// download answers with the stored result, which has the rows.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	database, id := r.PathValue("db"), r.PathValue("id")
	if !s.opts.ShowRows || !contract.ValidName(database) || !contract.ValidResultID(id) {
		s.notFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), panelTimeout)
	defer cancel()
	found, err := s.source.Client.LatestResult(ctx, database, id)
	if err != nil {
		http.Error(w, problem(err), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+database+"-"+id+`.json"`)
	_, _ = w.Write(found.Body) // fails only if the browser has gone
}

func isNoService(err error) bool { return errors.Is(err, client.ErrNoService) }
