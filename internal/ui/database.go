package ui

import (
	"context"
	"net/http"
	"slices"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// databasePage is everything about one database.
func (s *screens) databasePage(r *http.Request) *page {
	name := r.PathValue("db")
	if !contract.ValidName(name) {
		return nil
	}
	key := func(panel string) string { return "db " + name + " " + panel }
	state := func(ctx context.Context) (any, error) {
		view, err := s.loadDatabase(ctx, name)
		if err != nil {
			return nil, err
		}
		return view, nil
	}
	return &page{Title: name, Heading: name, Database: name, Screen: "database", Panels: []panel{
		{ID: "state", Key: key("state"), Block: "state", Load: state},
		{ID: "checks", Title: "Checks", Key: key("state"), Block: "checks", Load: state},
		{ID: "lanes", Title: "Lanes and queues", Key: key("lanes"), Block: "lanes", Load: func(ctx context.Context) (any, error) { return s.loadLanes(ctx, name) }},
		{ID: "running", Title: "Running now", Key: key("running"), Block: "running", Load: func(ctx context.Context) (any, error) { return s.loadRunning(ctx, name, "") }},
		{ID: "schedules", Title: "Schedules", Key: key("schedules"), Block: "schedules", Load: func(ctx context.Context) (any, error) { return s.loadSchedules(ctx, name) }},
		{ID: "catalog", Title: "Catalog", Key: key("catalog"), Block: "catalog", Load: func(ctx context.Context) (any, error) { return s.loadCatalog(ctx, name) }},
		{ID: "dba", Title: "Connections, ledger and migrations", Key: key("state"), Block: "dba", Load: state},
		{ID: "dead", Title: "Dead letters", Key: key("dead"), Block: "groups", Load: func(ctx context.Context) (any, error) { return s.loadGroups(ctx, deadFilter{Database: name}) }},
	}}
}

// databaseView is a database on its screen.
type databaseView struct {
	*fleet.DatabaseSummary
	Name    string
	Unheard bool // no runner reports it
	Last    time.Time
	Fleet   int // other databases
	Queues  []queuePause

	PoolMax, PoolOpen, PoolInUse, PoolWaiting int
}

// queuePause is a queue that is paused alone, and by whom and why.
type queuePause struct{ Queue, Why string }

func (s *screens) loadDatabase(ctx context.Context, name string) (*databaseView, error) {
	view := &databaseView{Name: name}
	err := s.fleet.View(ctx, func(f *fleet.Fleet) {
		for _, d := range f.Summaries(s.source.Now()) {
			if d.Name == name {
				view.DatabaseSummary = d
			} else {
				view.Fleet++
			}
		}
		for _, seen := range f.Databases[name] {
			if seen.SeenAt.After(view.Last) {
				view.Last = seen.SeenAt
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if view.DatabaseSummary == nil {
		view.DatabaseSummary = &fleet.DatabaseSummary{Name: name}
	}
	view.Unheard = len(view.Runners) == 0
	for i := range view.Lanes {
		if queue := view.Lanes[i].Queue; queue != "" && view.PauseOf(queue) != nil {
			view.Queues = append(view.Queues, queuePause{queue, fleet.PausedBy(view.PauseOf(queue))})
		}
	}
	for _, r := range view.Runners {
		if r.Health == nil || r.Checks.Pool == nil {
			continue
		}
		p := r.Checks.Pool
		view.PoolMax, view.PoolOpen = view.PoolMax+p.Max, view.PoolOpen+p.Open
		view.PoolInUse, view.PoolWaiting = view.PoolInUse+p.InUse, view.PoolWaiting+p.Waiting
	}
	return view, nil
}

// runningRow is a job in flight.
type runningRow struct {
	client.RunningJob
	Received time.Time
}

type runningView struct {
	Rows     []runningRow
	Runners  int // that answered
	Missing  []string
	Unlisted string
	None     bool // no runner answers at all
	Only     string
}

// loadRunning asks every runner of a database what it has in flight; id: only this job.
func (s *screens) loadRunning(ctx context.Context, name, id string) (any, error) {
	var found *client.Running
	err := s.source.UnlessDenied(ctx, "what runs on "+name, []string{s.source.Subjects.API("running." + name)}, func(ctx context.Context) (err error) {
		found, err = s.running(ctx, []string{name}, false, panelTimeout/2)
		return err
	})
	if isNoService(err) {
		return &runningView{None: true, Only: id}, nil
	}
	if err != nil {
		return nil, err
	}
	view := &runningView{Runners: len(found.Runners), Only: id}
	if found.Unlisted != "" {
		view.Unlisted = "Which runners should answer is not known: this user may not read the heartbeats."
	}
	for i := range found.Missing {
		view.Missing = append(view.Missing, found.Missing[i].Runner)
	}
	slices.Sort(view.Missing)
	for i := range found.Jobs {
		if j := &found.Jobs[i]; id == "" || j.JobID == id {
			view.Rows = append(view.Rows, runningRow{RunningJob: *j, Received: s.source.Now().Add(-time.Duration(j.Seconds * float64(time.Second)))})
		}
	}
	if len(view.Rows) > shownRows {
		view.Rows = view.Rows[:shownRows]
	}
	return view, nil
}

// shownRows bounds the lines of a table.
const shownRows = 200
