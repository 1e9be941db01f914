package ui

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
)

// nowPage is the first screen: what is wrong, worst first.
func (s *screens) nowPage(*http.Request) *page {
	return &page{Title: "Now", Heading: "Now", Screen: "now", Panels: []panel{
		{ID: "attention", Title: "Needs attention", Key: "attention", Block: "attention", Load: s.loadAttention},
		{ID: "databases", Title: "Databases", Key: "databases", Block: "databases", Load: s.loadDatabases},
		{ID: "runners", Title: "Runners", Key: "runners", Block: "runners", Load: s.loadRunners},
	}}
}

type attentionView struct {
	Items []fleet.Attention
	Fleet int    // databases
	Dead  string // why dead letters are not known
	Never bool   // no runner has reported at all
}

const deadRecent = time.Hour

func (s *screens) loadAttention(ctx context.Context) (any, error) {
	var group sync.WaitGroup
	var dead *fleet.DeadView
	var deadErr error
	group.Go(func() {
		since := s.source.Now().Add(-deadRecent)
		dead, deadErr = s.dead.Get(ctx, func(d *fleet.DeadLetter) bool { return d.Stored.After(since) })
	})
	view := &attentionView{}
	err := s.fleet.View(ctx, func(f *fleet.Fleet) {
		view.Never = len(f.Runners) == 0
		view.Items, view.Fleet = f.Attentions(s.source.Now())
	})
	group.Wait()
	if err != nil {
		return nil, err
	}
	if deadErr != nil {
		view.Dead = problem(deadErr)
	} else {
		view.Items = append(view.Items, fleet.AttentionsOf(dead.List)...)
	}
	slices.SortStableFunc(view.Items, func(a, b fleet.Attention) int { return cmp.Compare(b.Rank, a.Rank) })
	return view, nil
}

// databaseRow is a line of the table of databases.
type databaseRow struct {
	*fleet.DatabaseSummary
	Oldest   *time.Time // the oldest pending job
	Longest  string     // id of the job that runs longest
	LongSeen *time.Time
	Failed   int // dead letters of the last hour
}

type databasesView struct {
	Rows  []databaseRow
	Never bool
	Notes []string
}

// asked bounds how many databases one look asks what waits and runs there.
const asked = 20

func (s *screens) loadDatabases(ctx context.Context) (any, error) {
	view := &databasesView{}
	var all []*fleet.DatabaseSummary
	if err := s.fleet.View(ctx, func(f *fleet.Fleet) {
		all = f.Summaries(s.source.Now())
		view.Never = len(f.Runners) == 0
		if f.Unlisted != nil {
			view.Notes = append(view.Notes, "Databases without a runner are not shown: "+problem(f.Unlisted))
		}
	}); err != nil {
		return nil, err
	}
	fleet.WorstFirst(all)
	since, failed := s.source.Now().Add(-deadRecent), map[string]int{}
	dead, err := s.dead.Get(ctx, func(d *fleet.DeadLetter) bool { return d.Stored.After(since) })
	if err != nil {
		view.Notes = append(view.Notes, "Dead letters: "+problem(err))
	} else {
		for i := range dead.List {
			failed[dead.List[i].Database]++
		}
	}
	for _, d := range all {
		view.Rows = append(view.Rows, databaseRow{DatabaseSummary: d, Failed: failed[d.Name]})
	}
	view.Notes = append(view.Notes, s.fillBusy(ctx, view.Rows)...)
	return view, nil
}

// fillBusy adds the oldest pending and the longest running job of the first databases that have any.
func (s *screens) fillBusy(ctx context.Context, rows []databaseRow) (notes []string) {
	ctx, cancel := context.WithTimeout(ctx, panelTimeout*3/4)
	defer cancel()
	var group sync.WaitGroup
	var busy []string
	waiting := 0
	for i := range rows {
		switch {
		case rows[i].DatabaseSummary.Oldest != nil:
			rows[i].Oldest = rows[i].DatabaseSummary.Oldest
		case rows[i].Pending > 0 && waiting < asked:
			waiting++
			group.Go(func() { rows[i].Oldest, _ = s.source.OldestPending(ctx, rows[i].DatabaseSummary) }) // unknown: a dash
		}
		if rows[i].InFlight > 0 && len(busy) < asked {
			busy = append(busy, rows[i].Name)
		}
	}
	var longest map[string]*client.RunningJob
	if len(busy) > 0 {
		group.Go(func() {
			found, err := s.running(ctx, busy, true, time.Second)
			if err != nil {
				notes = append(notes, "What runs: "+problem(err))
				return
			}
			longest = map[string]*client.RunningJob{}
			for i := range found.Jobs {
				if j := &found.Jobs[i]; longest[j.Database] == nil {
					longest[j.Database] = j // the oldest is first
				}
			}
		})
	}
	group.Wait()
	for i := range rows {
		if j := longest[rows[i].Name]; j != nil {
			at := s.source.Now().Add(-time.Duration(j.Seconds * float64(time.Second)))
			rows[i].Longest, rows[i].LongSeen = j.JobID, &at
		}
	}
	return notes
}

// running asks the runners of databases what they have in flight; busy: it waits only for those that had something.
func (s *screens) running(ctx context.Context, databases []string, busy bool, wait time.Duration) (*client.Running, error) {
	opts := client.RunningOptions{Databases: databases, Wait: wait}
	_ = s.fleet.View(ctx, func(f *fleet.Fleet) { opts.Expected = f.RunnersOf(databases, busy, s.source.Now()) }) // without it, the client tries
	return s.source.Client.Running(ctx, opts)
}

// runnerRow is a runner in the table of runners.
type runnerRow struct {
	*fleet.RunnerSeen
	At     time.Time
	Word   string
	InUse  int
	Slots  int
	Names  []string
	Denied int
}

type runnersView struct {
	Rows    []runnerRow
	Up      int
	Silent  int
	Builds  []string
	Stopped int
}

func (s *screens) loadRunners(ctx context.Context) (any, error) {
	view := &runnersView{}
	err := s.fleet.View(ctx, func(f *fleet.Fleet) {
		now := s.source.Now()
		builds := map[string]bool{}
		for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
			r := f.Runners[name]
			row := runnerRow{RunnerSeen: r, At: r.SeenAt, Word: r.State, Denied: len(r.Denied)}
			switch {
			case r.State == contract.RunnerStopped:
				view.Stopped++
				continue
			case r.Silent(now):
				row.Word = "silent"
				view.Silent++
			default:
				view.Up++
			}
			builds[r.Build] = true
			for i := range r.Databases {
				row.Names = append(row.Names, r.Databases[i].Name)
				for j := range r.Databases[i].Lanes {
					row.InUse += r.Databases[i].Lanes[j].SlotsInUse
					row.Slots += r.Databases[i].Lanes[j].Slots
				}
			}
			view.Rows = append(view.Rows, row)
		}
		view.Builds = slices.Sorted(maps.Keys(builds))
	})
	return view, err
}
