package app

import (
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/report"
)

// applyPauses pauses the lanes of a database, or resumes them. When it returns, nothing more starts in a paused lane.
func (r *running) applyPauses(database string, pauses []report.Pause) {
	for _, d := range r.databases {
		if d.Name != database {
			continue
		}
		d.paused.Store(len(pauses) > 0)
		for _, p := range d.pauses {
			p.Set(slices.ContainsFunc(pauses, stopsJobs))
		}
	}
}

// stopsJobs reports whether a pause is of more than a schedule.
func stopsJobs(p report.Pause) bool {
	target, ok := contract.ParsePauseKey(p.Key)
	return ok && target.StopsJobs()
}
