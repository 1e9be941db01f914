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

// waitsForApproval is what the search has as a status of dry runs without an approval.
const waitsForApproval = "waits for approval"

// jobRow is a result in a list.
type jobRow struct {
	fleet.Result
	Approval *fleet.Result // of a dry run; nil: there is none
	Waits    bool          // for an approval
}

func (q *jobsQuery) fits(r *jobRow) bool {
	if q.Status != "" && string(r.Status) != q.Status && (q.Status != waitsForApproval || !r.Waits) || q.Kind != "" && r.Kind != q.Kind || q.Code != "" && r.Code() != q.Code {
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
	Rows     []jobRow
	Found    int
	Waiting  int // dry runs that wait for their approval
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
	kinds, approvals := map[string]bool{q.Kind: true}, fleet.Approvals(list)
	for i := range list {
		row := jobRow{Result: list[i]}
		if row.CanBeApproved() {
			row.Approval = approvals[row.JobID]
			row.Waits = row.Approval == nil
		}
		if row.Waits {
			view.Waiting++
		}
		kinds[row.Kind] = true
		if !q.fits(&row) {
			continue
		}
		if view.Found++; len(view.Rows) < shownRows {
			view.Rows = append(view.Rows, row)
		}
	}
	if len(list) > 0 {
		view.Back = &list[len(list)-1].Finished
	}
	for _, status := range []contract.Status{contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown} {
		view.Statuses = append(view.Statuses, string(status))
	}
	view.Statuses = append(view.Statuses, waitsForApproval)
	for kind := range kinds {
		if kind != "" {
			view.Kinds = append(view.Kinds, kind)
		}
	}
	slices.Sort(view.Kinds)
	return view, nil
}
