package ui

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// jobsPage searches the newest results of a database.
func (s *screens) jobsPage(r *http.Request) *page {
	database := r.PathValue("db")
	if !contract.ValidName(database) {
		return nil
	}
	q := jobsQuery{Status: r.FormValue("status"), Kind: r.FormValue("kind"), Label: strings.TrimSpace(r.FormValue("label")), Code: strings.TrimSpace(r.FormValue("code"))}
	return &page{Title: "Jobs of " + database, Heading: "Jobs of " + database, Database: database, Screen: "jobs", Panels: []panel{{
		ID: "jobs", Key: "jobs " + database + " " + strings.Join([]string{q.Status, q.Kind, q.Label, q.Code}, "\x00"), Block: "jobs",
		Load: func(ctx context.Context) (any, error) { return s.loadJobs(ctx, database, q) },
	}}}
}

type jobsQuery struct{ Status, Kind, Label, Code string }

func (q *jobsQuery) fits(r *fleet.Result) bool {
	if q.Status != "" && string(r.Status) != q.Status || q.Kind != "" && r.Kind != q.Kind || q.Code != "" && r.Code() != q.Code {
		return false
	}
	if q.Label == "" {
		return true
	}
	name, value, pair := strings.Cut(q.Label, "=")
	have, there := r.Labels[name]
	return there && (!pair || have == value)
}

type jobsView struct {
	jobsQuery
	Database string
	Rows     []fleet.Result
	Found    int
	Searched int
	Total    uint64
	Back     *time.Time // how far the search reaches
	Statuses []string
	Kinds    []string
}

func (s *screens) loadJobs(ctx context.Context, database string, q jobsQuery) (any, error) {
	list, total, err := s.recent.Of(ctx, database)
	if err != nil {
		return nil, err
	}
	view := &jobsView{jobsQuery: q, Database: database, Searched: len(list), Total: total}
	kinds := map[string]bool{q.Kind: true}
	for i := range list {
		kinds[list[i].Kind] = true
		if !q.fits(&list[i]) {
			continue
		}
		if view.Found++; len(view.Rows) < shownRows {
			view.Rows = append(view.Rows, list[i])
		}
	}
	if len(list) > 0 {
		view.Back = &list[len(list)-1].Finished
	}
	for _, status := range []contract.Status{contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown} {
		view.Statuses = append(view.Statuses, string(status))
	}
	for kind := range kinds {
		if kind != "" {
			view.Kinds = append(view.Kinds, kind)
		}
	}
	slices.Sort(view.Kinds)
	return view, nil
}
