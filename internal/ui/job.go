package ui

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/result"
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
	Steps        []result.Step
	Meaning      string
	Labels       []string
	Statements   []result.Statement
	Tables       []result.Table
	Size         int
	DryRun       bool           // an approval may commit it
	Approval     *client.Result // of it; nil: there is none
	Approves     string         // the dry run that it is an approval of
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
	if _, err := client.ApprovalOf(r); err == nil {
		view.DryRun = true
		view.Approval, _ = s.source.Client.LatestResult(ctx, database, contract.ApprovalID(id)) // without permission, the first one failed, too
	}
	return view, nil
}

// fill makes what is shown of the result.
func (v *resultView) fill(rows bool) {
	v.Steps, v.Meaning, v.Statements = result.Steps(v.Result), result.Meaning(v.Result), result.Statements(v.Result)
	for _, name := range slices.Sorted(maps.Keys(v.Result.Labels)) {
		v.Labels = append(v.Labels, name+"="+v.Result.Labels[name])
	}
	if r := v.Result; r.Kind == "approve" {
		v.Approves, _ = strings.CutSuffix(r.JobID, contract.ApprovalID(""))
	}
	if rows {
		v.Tables = result.Tables(v.Result)
	}
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
