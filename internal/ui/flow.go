package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/ui/fleet"
	"dbrunner/internal/ui/format"
)

// laneRow is a lane with what its consumer has pending.
type laneRow struct {
	fleet.LaneSummary
	Oldest     *time.Time
	FleetSlots int
	Note       string // why the oldest is not known
	State      string
	Waits      bool   // no job of it starts
	Why        string // it is paused
}

type lanesView struct {
	Name   string
	Queues bool // there are some
	Rows   []laneRow
}

func (s *screens) loadLanes(ctx context.Context, name string) (any, error) {
	d, err := s.loadDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	view := &lanesView{Name: name, Rows: make([]laneRow, len(d.Lanes))}
	var group sync.WaitGroup
	for i := range d.Lanes {
		row := &view.Rows[i]
		row.LaneSummary, row.State = d.Lanes[i], "takes jobs"
		view.Queues = view.Queues || row.Queue != ""
		group.Go(func() {
			lane, err := s.source.Lane(ctx, name, row.Name)
			if err != nil {
				row.Note = problem(err)
				return
			}
			row.Oldest, row.FleetSlots = lane.Oldest, lane.FleetSlots
		})
		switch pause := d.PauseOf(row.Queue); {
		case len(row.Errors) > 0:
			row.State, row.Waits = row.Errors[0], true
		case row.Failed != nil:
			row.State, row.Waits = "waits for a failed job", true
		case row.Name != "migration" && row.Name != "health" && (d.Paused() || pause != nil):
			row.State, row.Waits = contract.DatabasePaused, true
			if pause != nil && row.Queue != "" {
				row.Why = fleet.PausedBy(pause)
			}
		case row.Name != "health" && d.State != "" && d.State != contract.DatabaseUp && d.State != contract.DatabasePaused:
			row.State, row.Waits = "waits: "+d.State, true
		case row.Slots > 0 && row.InUse >= row.Slots:
			row.State = "all slots in use"
		}
	}
	group.Wait()
	return view, nil
}

// scheduleRow is a schedule with when it fires next.
type scheduleRow struct {
	fleet.Schedule
	Name     string // its key
	Ticks    []time.Time
	Position *time.Time // ticks up to then are settled
	Fired    *contract.ScheduleTick
	Trouble  *contract.ScheduleTick // the last one that was missed, skipped or not confirmed, if that was after it fired
	Why      string                 // it is paused
}

type schedulesView struct {
	Database string
	Rows     []scheduleRow
	Total    int
	Problem  string // why none fires
	Overdue  string
}

// loadSchedules reads the schedules of a database: those that need a person first, then by their next tick.
func (s *screens) loadSchedules(ctx context.Context, name string) (any, error) {
	view := &schedulesView{Database: name}
	d, err := s.loadDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	if sum := d.Schedules; sum != nil {
		view.Problem = sum.Problem
		if sum.Overdue >= scheduleOverdue.Seconds() {
			view.Overdue = format.Period(time.Duration(sum.Overdue * float64(time.Second)))
		}
	}
	all, err := s.schedules.Of(ctx, name)
	if fleet.IsMissing(err) {
		return view, nil // without the bucket there is none
	}
	if err != nil {
		return nil, err
	}
	view.Total = len(all)
	rank := map[string]int{contract.ScheduleInError: 0, contract.DatabasePaused: 1, contract.ScheduleFinished: 3}
	of := func(a *fleet.Schedule) int {
		if n, ok := rank[a.Status]; ok {
			return n
		}
		return 2
	}
	due := func(a *fleet.Schedule) int64 {
		if a.State == nil || a.State.Next == nil {
			return 0
		}
		return a.State.Next.Unix()
	}
	slices.SortStableFunc(all, func(a, b fleet.Schedule) int {
		return cmp.Or(cmp.Compare(of(&a), of(&b)), cmp.Compare(due(&a), due(&b)))
	})
	for i := range all[:min(len(all), shownRows)] {
		view.Rows = append(view.Rows, rowOf(&all[i]))
	}
	return view, nil
}

// scheduleOverdue is how long a tick may be due before the page says so.
const scheduleOverdue = 10 * time.Second

func rowOf(one *fleet.Schedule) scheduleRow {
	row := scheduleRow{Schedule: *one, Name: one.Key.String(), Ticks: one.Next()}
	if one.Pause != nil {
		row.Why = fleet.PausedBy(one.Pause)
	}
	state := one.State
	if state == nil {
		return row
	}
	row.Fired = state.LastFired
	if !state.Position.IsZero() {
		row.Position = &state.Position
	}
	for _, tick := range []*contract.ScheduleTick{state.LastMissed, state.LastSkipped, state.LastUnconfirmed} {
		if tick != nil && (row.Trouble == nil || tick.Tick.After(row.Trouble.Tick)) && (row.Fired == nil || tick.Tick.After(row.Fired.Tick)) {
			row.Trouble = tick
		}
	}
	return row
}

// callRow is a statement of a catalog.
type callRow struct {
	contract.CallInfo
	Params []string
	Limits []string
}

type catalogView struct {
	Database string
	Hash     string
	Rows     []callRow
	Total    int
	Differ   []string // what runners have, if it is not the same
	None     bool     // no runner has a catalog
	Silent   bool     // none answers
}

// loadCatalog asks a runner for the statements that may be called.
func (s *screens) loadCatalog(ctx context.Context, name string) (any, error) {
	view := &catalogView{Database: name}
	d, err := s.loadDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(d.Catalogs) == 0 {
		view.None = true
		return view, nil
	}
	if len(d.Catalogs) > 1 {
		for _, hash := range slices.Sorted(maps.Keys(d.Catalogs)) {
			view.Differ = append(view.Differ, hash[:min(len(hash), 12)]+" on "+strings.Join(d.Catalogs[hash], ", "))
		}
	}
	var found *client.Catalog
	err = s.source.UnlessDenied(ctx, "the catalog of "+name, []string{s.source.Subjects.API("calls." + name)}, func(ctx context.Context) (err error) {
		found, err = client.ReadCatalog(ctx, s.source.Client, name)
		return err
	})
	if isNoService(err) {
		view.Silent = true
		return view, nil
	}
	if err != nil {
		return nil, err
	}
	view.Hash, view.Total = found.Hash[:min(len(found.Hash), 12)], len(found.Calls)
	for i := range found.Calls[:min(len(found.Calls), shownRows)] {
		view.Rows = append(view.Rows, callOf(&found.Calls[i]))
	}
	return view, nil
}

// callOf is what is shown of a statement.
func callOf(info *contract.CallInfo) callRow {
	row := callRow{CallInfo: *info}
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
	}
	_ = json.Unmarshal(info.Schema, &schema) // parameters that cannot be read are not shown
	for _, param := range slices.Sorted(maps.Keys(schema.Properties)) {
		if !slices.Contains(schema.Required, param) {
			param += "?"
		}
		row.Params = append(row.Params, param)
	}
	if info.MaxRows > 0 {
		row.Limits = append(row.Limits, "max_rows "+format.Number(info.MaxRows))
	}
	if info.MaxAffected > 0 {
		row.Limits = append(row.Limits, "max_affected "+format.Number(info.MaxAffected))
	}
	if info.Timeout != "" {
		row.Limits = append(row.Limits, "timeout "+info.Timeout)
	}
	return row
}
