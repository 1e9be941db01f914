package check

import (
	"strings"
	"time"
)

// Schedule is a schedule as its record and its state have it at the end.
type Schedule struct {
	Request string        `json:"request"`
	IDs     string        `json:"ids"`     // what the ids of its jobs start with
	Records []time.Time   `json:"records"` // when each version of its record was stored, as far as the bucket keeps them
	State   ScheduleState `json:"state"`
}

// ScheduleState is what the checker reads of a schedule's state.
type ScheduleState struct {
	Status   string     `json:"status"`
	Error    string     `json:"error"`
	At       *time.Time `json:"at"`
	Anchor   time.Time  `json:"anchor"`
	Position time.Time  `json:"position"`
	Claim    *struct {
		Tick time.Time `json:"tick"`
	} `json:"claim"`

	Fired       int `json:"fired"`
	Missed      int `json:"missed"`
	Skipped     int `json:"skipped"`
	Unconfirmed int `json:"unconfirmed"`
}

// tickForm is the end of a tick's id.
const tickForm = "20060102T150405Z"

// ID is the id of a tick's job.
func (s *Schedule) ID(tick time.Time) string { return s.IDs + tick.UTC().Format(tickForm) }

// Ticks are the ticks that were due until the state's position: they count from the time of the record, in whole seconds.
func (s *Schedule) Ticks(every time.Duration) (list []time.Time) {
	if every == 0 {
		if at := s.State.At; at != nil && !at.After(s.State.Position) {
			list = append(list, *at)
		}
		return list
	}
	anchor := s.Records[0].Truncate(time.Second)
	if anchor.Before(s.Records[0]) {
		anchor = anchor.Add(time.Second)
	}
	for tick := anchor.Add(every); !tick.After(s.State.Position); tick = tick.Add(every) {
		list = append(list, tick)
	}
	return list
}

// ticks: each tick that was due is counted once, as fired, missed, skipped or unconfirmed; each fired one has a result, and one
// that has a result is fired or unconfirmed.
func ticks(ix *index, report func(string, string, ...any)) {
	for i := range ix.Schedules {
		s := &ix.Schedules[i]
		r, st := ix.Requests[s.Request], &s.State
		open := 0
		if st.Claim != nil {
			open = 1
		}
		late := open > 0 || st.Position.Before(ix.SchedulesEnded) && st.Status != "finished"
		if st.Error != "" || late && !ix.Skewed { // runners whose clocks are wrong fire and settle nothing
			report(s.Request, "the schedule stands still at %s, status %s, error %q, claim %v", st.Position, st.Status, st.Error, st.Claim)
		}
		due := len(s.Ticks(r.Every))
		if counted := st.Fired + st.Missed + st.Skipped + st.Unconfirmed; counted != due {
			report(s.Request, "%d ticks were due until %s, and %d are counted: %d fired, %d missed, %d skipped, %d unconfirmed",
				due, st.Position, counted, st.Fired, st.Missed, st.Skipped, st.Unconfirmed)
		}
		published := 0
		for key := range ix.stored {
			if key.database == r.Database && strings.HasPrefix(key.id, s.IDs) {
				published++
			}
		}
		if published < st.Fired || published > st.Fired+st.Unconfirmed+open {
			report(s.Request, "%d ticks have a result, and %d are counted as fired and %d as unconfirmed", published, st.Fired, st.Unconfirmed)
		}
	}
}
