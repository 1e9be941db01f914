package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/schedule"
)

// scheduleView is a schedule in the output.
type scheduleView struct {
	Key    string                  `json:"key"`
	Status string                  `json:"status"` // as in the state, or paused or new
	Error  string                  `json:"error,omitempty"`
	Pause  *contract.Pause         `json:"pause,omitempty"`
	Record *contract.Schedule      `json:"record,omitempty"` // missing: it cannot be read
	State  *contract.ScheduleState `json:"state,omitempty"`  // missing: no runner has taken the schedule up
	Next   []time.Time             `json:"next,omitempty"`

	definition *schedule.Definition
}

// nextShown is how many of the next ticks are shown.
const nextShown = 5

func viewSchedule(l *schedule.Listed) scheduleView {
	v := scheduleView{Key: l.Key, Status: "new", Pause: l.Pause, State: l.State.Value}
	id, err := contract.ParseScheduleKey(l.Key)
	if err == nil {
		v.definition, err = clientRules().Read(id, l.Record.Value, l.Record.Stored)
	}
	if v.definition != nil {
		v.Record = v.definition.Record
	} else if v.Status, v.Error = contract.ScheduleInError, ""; err != nil {
		v.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if s := v.State; s != nil && s.Record.Revision == l.Record.Revision {
		v.Status, v.Error = s.Status, s.Error
	}
	if v.Pause != nil && v.Status != contract.ScheduleInError {
		v.Status = "paused"
	}
	if v.State != nil && v.definition != nil && v.Status == contract.ScheduleActive {
		v.Next = schedule.NextTicks(v.State, v.definition, nextShown)
	}
	return v
}

func (v *scheduleView) times() string {
	if v.Record == nil {
		return "-"
	}
	return v.Record.Times()
}

func (v *scheduleView) row() []string {
	row := []string{v.Key, v.times(), v.Status, "-", "-", "-", "-", "-", "-"}
	s := v.State
	if s == nil {
		return row
	}
	if len(v.Next) > 0 {
		row[3] = v.Next[0].Format(time.RFC3339)
	}
	if s.LastFired != nil {
		row[4] = s.LastFired.Tick.Format(time.RFC3339)
	}
	for i, n := range []uint64{s.Fired, s.Missed, s.Skipped, s.Unconfirmed} {
		row[5+i] = strconv.FormatUint(n, 10)
	}
	return row
}

func newScheduleShow() *cobra.Command {
	return reading("show KEY", "Show a schedule", "Show the record and the state of a schedule, and its next ticks.\n",
		"  runner schedule show jobs.shop.query.nightly_report", arguments(1, 1),
		func(ctx context.Context, cmd *cobra.Command, s *session, args []string, f *scheduleFlags) error {
			l, err := findSchedule(ctx, s, args[0])
			if err != nil {
				return err
			}
			v := viewSchedule(l)
			if f.json {
				return printJSON(cmd.OutOrStdout(), &v)
			}
			v.print(cmd.OutOrStdout(), l)
			return nil
		})
}

func (v *scheduleView) print(w io.Writer, l *schedule.Listed) {
	rows := [][]string{{"schedule", v.Key}, {"times", v.times()}, {"status", v.Status}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("error", v.Error)
	if v.Pause != nil {
		add("paused", strings.TrimSpace("by "+v.Pause.By+" "+v.Pause.Reason))
	}
	if r := v.Record; r != nil {
		add("description", r.Description)
		add("source", r.Source)
		add("catch up", r.Late().String())
		add("overlap", r.Overlap)
		add("job", string(r.Job))
	} else {
		add("record", string(l.Record.Value))
	}
	for _, next := range v.Next {
		add("next", next.Format(time.RFC3339))
	}
	if s := v.State; s != nil {
		add("ticks", fmt.Sprintf("%d fired, %d missed, %d skipped, %d unconfirmed", s.Fired, s.Missed, s.Skipped, s.Unconfirmed))
		add("last fired", tickText(s.LastFired))
		add("last missed", tickText(s.LastMissed))
		add("last skipped", tickText(s.LastSkipped))
		add("last unconfirmed", tickText(s.LastUnconfirmed))
		if s.Claim != nil {
			add("publishing", fmt.Sprintf("%s as %s, claimed by %s at %s", s.Claim.Tick.Format(time.RFC3339), s.Claim.JobID, s.Claim.Runner, s.Claim.At.Format(time.RFC3339)))
		}
	}
	_ = table(w, "", rows) // a failed write shows in the exit code of standard output
}

func tickText(t *contract.ScheduleTick) string {
	if t == nil {
		return ""
	}
	text := t.Tick.Format(time.RFC3339)
	if t.JobID != "" {
		text += " as job " + t.JobID
	}
	if t.Reason != "" {
		text += ": " + t.Reason
	}
	return text
}
