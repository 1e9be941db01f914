package status

import (
	"strconv"

	"dbrunner/contract"
	"dbrunner/internal/telemetry"
)

// scheduled describes the database's schedules; nil: there are none, and nothing is wrong.
func scheduled(d *Database) *contract.ScheduleSummary {
	if d.schedules == nil {
		return nil
	}
	return d.schedules.Summary(d.Name)
}

// schedulesImpaired returns why schedules of the database do not fire; empty: all of them do.
func schedulesImpaired(d *Database) string {
	s := scheduled(d)
	switch {
	case s == nil:
		return ""
	case s.Problem != "":
		return "schedules: " + s.Problem
	case s.Failing == 1:
		return "the schedule " + s.Errors[0].Key + " does not fire: " + s.Errors[0].Error
	case s.Failing > 1:
		return strconv.Itoa(s.Failing) + " schedules do not fire, the first one is " + s.Errors[0].Key + ": " + s.Errors[0].Error
	}
	return ""
}

// scheduleMetrics are the schedules of the database for a scrape; nil: none are tracked.
func scheduleMetrics(d *Database) *telemetry.Schedules {
	if d.schedules == nil {
		return nil
	}
	s := scheduled(d)
	if s == nil {
		s = &contract.ScheduleSummary{}
	}
	return &telemetry.Schedules{Total: s.Total, Paused: s.Paused, Finished: s.Finished, Failing: s.Failing, Overdue: s.Overdue, Ticks: d.schedules.Ticks(d.Name)}
}
