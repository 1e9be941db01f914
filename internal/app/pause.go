package app

import "dbrunner/internal/report"

// applyPauses pauses the lanes of a database, or resumes them. When it returns, nothing more starts in a paused lane.
func (r *running) applyPauses(database string, pauses []report.Pause) {
	for _, d := range r.databases {
		if d.Name != database {
			continue
		}
		d.paused.Store(len(pauses) > 0)
		for _, p := range d.pauses {
			p.Set(len(pauses) > 0)
		}
	}
}
