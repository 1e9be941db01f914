package ui

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

// nowPage is the first screen: what is wrong, worst first.
func (s *screens) nowPage(*http.Request) *page {
	return &page{Title: "Now", Heading: "Now", Screen: "now", Panels: []panel{
		{ID: "attention", Title: "Needs attention", Key: "attention", Block: "attention", Load: s.loadAttention},
		{ID: "databases", Title: "Databases", Key: "databases", Block: "databases", Load: s.loadDatabases},
		{ID: "runners", Title: "Runners", Key: "runners", Block: "runners", Load: s.loadRunners},
	}}
}

// attention is one thing that a person should look at.
type attention struct {
	Rank  int
	Name  string
	Link  string
	Word  string
	Since *time.Time
	Why   string
	More  string
}

type attentionView struct {
	Items   []attention
	Fleet   int    // databases
	Dead    string // why dead letters are not known
	Silence time.Duration
	Never   bool // no runner has reported at all
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
		now := s.source.Now()
		all := f.Summaries(now)
		view.Fleet = len(all)
		view.Never = len(f.Runners) == 0
		for _, d := range all {
			if item, wrong := attentionOf(d); wrong {
				view.Items = append(view.Items, item)
			}
		}
		view.Items = append(view.Items, silentRunners(f, now)...)
	})
	group.Wait()
	if err != nil {
		return nil, err
	}
	if deadErr != nil {
		view.Dead = problem(deadErr)
	} else {
		view.Items = append(view.Items, recentDead(dead.List)...)
	}
	slices.SortStableFunc(view.Items, func(a, b attention) int { return cmp.Compare(b.Rank, a.Rank) })
	return view, nil
}

func attentionOf(d *fleet.DatabaseSummary) (attention, bool) {
	rank := d.Rank()
	item := attention{Rank: rank * 10, Name: d.Name, Link: "/db/" + d.Name, Word: d.Word(), Since: d.Since, Why: d.Why()}
	if d.Pending > 0 {
		item.More = format.Number(d.Pending) + " wait"
	}
	if rank == 0 && len(d.Topology) > 0 {
		item.Rank, item.Word, item.Why, item.Since = 10, "degraded", d.Topology[0].Problem+": "+d.Topology[0].Remedy, &d.Topology[0].Since
		return item, true
	}
	return item, rank > 0
}

// silentRunners are runners that should have sent a heartbeat.
func silentRunners(f *fleet.Fleet, now time.Time) []attention {
	var out []attention
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		r := f.Runners[name]
		switch {
		case r.Silent(now):
			out = append(out, attention{Rank: 35, Name: name, Link: "#runners", Word: "silent", Since: &r.SeenAt, Why: "no heartbeat; its jobs go to other runners after the ack wait"})
		case r.Shared:
			out = append(out, attention{Rank: 9, Name: name, Link: "#runners", Word: "degraded", Why: "two processes use this instance name"})
		case len(r.Denied) > 0:
			out = append(out, attention{Rank: 12, Name: name, Link: "#runners", Word: "degraded", Why: "NATS refuses it " + r.Denied[0]})
		}
	}
	return out
}

// recentDead are the dead letters of the last hour, by database, with their most frequent causes.
func recentDead(list []fleet.DeadLetter) []attention {
	type cause struct{ name, word string }
	counts := map[string]map[cause]int{}
	last := map[string]time.Time{}
	for i := range list {
		d := &list[i]
		if counts[d.Database] == nil {
			counts[d.Database] = map[cause]int{}
		}
		counts[d.Database][cause{d.Database, firstText(d.Code, d.Reason)}]++
		last[d.Database] = d.Stored
	}
	var out []attention
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		causes := slices.SortedFunc(maps.Keys(counts[name]), func(a, b cause) int {
			return cmp.Or(cmp.Compare(counts[name][b], counts[name][a]), strings.Compare(a.word, b.word))
		})
		total, texts := 0, []string{}
		for i, c := range causes {
			total += counts[name][c]
			if i < 3 {
				texts = append(texts, c.word+" ×"+strconv.Itoa(counts[name][c]))
			}
		}
		at := last[name]
		out = append(out, attention{
			Rank: 5, Name: name, Link: "/dead?db=" + name, Word: "dead letters", Since: &at, Why: strings.Join(texts, ", "), More: format.Number(total) + " in the last hour",
		})
	}
	return out
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
		if rows[i].Pending > 0 && waiting < asked {
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
