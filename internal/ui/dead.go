package ui

import (
	"cmp"
	"context"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// deadFilter chooses dead letters. The zero value chooses all.
type deadFilter struct {
	Database, Kind, Reason, Code, JobID, Name string
	Listed                                    bool   // one by one, not in groups
	UpTo                                      uint64 // sequence; 0: no bound
}

// filterOf reads the filter of an address.
func filterOf(r *http.Request) (deadFilter, bool) {
	f := deadFilter{
		Database: r.FormValue("db"), Kind: r.FormValue("kind"), Reason: r.FormValue("reason"), Code: r.FormValue("code"), Name: r.FormValue("name"),
		Listed: r.FormValue("list") != "",
	}
	f.UpTo, _ = strconv.ParseUint(r.FormValue("upto"), 10, 64) // none is no bound
	for _, word := range []string{f.Database, f.Kind, f.Reason} {
		if word != "" && !contract.ValidName(word) {
			return deadFilter{}, false
		}
	}
	return f, true
}

func (f *deadFilter) fits(d *fleet.DeadLetter) bool {
	return (f.Database == "" || d.Database == f.Database) && (f.Kind == "" || d.Kind == f.Kind) && (f.Reason == "" || d.Reason == f.Reason) &&
		(f.Code == "" || d.Code == f.Code) && (f.JobID == "" || d.JobID == f.JobID) && (f.Name == "" || d.Name() == f.Name) && (f.UpTo == 0 || d.Sequence <= f.UpTo)
}

// Query is the filter as the parameters of an address, encoded: a template must not do it again.
func (f deadFilter) Query() template.URL {
	q := url.Values{}
	for name, value := range map[string]string{"db": f.Database, "kind": f.Kind, "reason": f.Reason, "code": f.Code, "name": f.Name} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.UpTo > 0 {
		q.Set("upto", strconv.FormatUint(f.UpTo, 10))
	}
	return template.URL(q.Encode()) //nolint:gosec // encoded
}

// deadPage shows dead letters: grouped by cause, and one by one.
func (s *screens) deadPage(r *http.Request) *page {
	f, ok := filterOf(r)
	if !ok {
		return nil
	}
	p := &page{Title: "Dead letters", Heading: "Dead letters", Screen: "dead", Database: f.Database}
	if f.Database != "" {
		p.Heading += " of " + f.Database
	}
	if f.Listed {
		p.Panels = []panel{{ID: "dead", Key: "deadlist " + string(f.Query()), Block: "deadlist", Load: func(ctx context.Context) (any, error) { return s.loadDeadList(ctx, f) }}}
		return p
	}
	p.Panels = []panel{{ID: "dead", Key: "groups " + string(f.Query()), Block: "groups", Load: func(ctx context.Context) (any, error) { return s.loadGroups(ctx, f) }}}
	return p
}

// deadGroup are dead letters with one cause.
type deadGroup struct {
	deadFilter
	Count       int
	First, Last time.Time
	Effect      fleet.EffectNote
	Message     string // of the last one
	Databases   bool   // of more than one database
}

type groupsView struct {
	deadFilter
	Groups  []deadGroup
	Count   int
	Hour    int
	Total   uint64
	Partial bool
	Oldest  *time.Time
}

func (s *screens) loadGroups(ctx context.Context, f deadFilter) (any, error) {
	found, err := s.dead.Get(ctx, f.fits)
	if err != nil {
		return nil, err
	}
	view := &groupsView{deadFilter: f, Count: len(found.List), Total: found.Total, Partial: found.Partial}
	groups := map[deadFilter]*deadGroup{}
	hour := s.source.Now().Add(-deadRecent)
	for i := range found.List {
		d := &found.List[i]
		if d.Stored.After(hour) {
			view.Hour++
		}
		key := deadFilter{Database: d.Database, Kind: d.Kind, Reason: d.Reason, Code: d.Code}
		g := groups[key]
		if g == nil {
			g = &deadGroup{deadFilter: key, First: d.Stored, Effect: fleet.EffectOf(d)}
			groups[key] = g
		}
		g.Count, g.Last, g.Message, g.UpTo = g.Count+1, d.Stored, d.Message, d.Sequence
	}
	if len(found.List) > 0 {
		view.Oldest = &found.List[0].Stored
	}
	for _, g := range groups {
		view.Groups = append(view.Groups, *g)
	}
	slices.SortFunc(view.Groups, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Database, b.Database), strings.Compare(a.Code+a.Reason+a.Kind, b.Code+b.Reason+b.Kind))
	})
	if len(view.Groups) > shownRows {
		view.Groups = view.Groups[:shownRows]
	}
	return view, nil
}

// deadRow is a dead letter in a list.
type deadRow struct {
	fleet.DeadLetter
	Effect fleet.EffectNote
}

type deadListView struct {
	deadFilter
	Rows  []deadRow
	Count int
	Job   bool
}

func (s *screens) loadDeadList(ctx context.Context, f deadFilter) (any, error) {
	found, err := s.dead.Get(ctx, f.fits)
	if err != nil {
		return nil, err
	}
	view := &deadListView{deadFilter: f, Count: len(found.List), Job: f.JobID != ""}
	slices.Reverse(found.List) // the newest first
	for i := range found.List[:min(len(found.List), shownRows)] {
		view.Rows = append(view.Rows, deadRow{DeadLetter: found.List[i], Effect: fleet.EffectOf(&found.List[i])})
	}
	return view, nil
}
