package app

import (
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/report"
	"dbrunner/internal/worker"
)

// lanePause is the pause of one lane.
type lanePause struct {
	*worker.Pause
	queue string // of the lane; empty: it is no queue's
}

// applyPauses pauses the lanes of a database, or resumes them. When it returns, nothing more starts in a paused lane.
func (r *running) applyPauses(database string, pauses []report.Pause) {
	for _, d := range r.databases {
		if d.Name != database {
			continue
		}
		stops := func(queue string) bool {
			return slices.ContainsFunc(pauses, func(p report.Pause) bool {
				target, ok := contract.ParsePauseKey(p.Key)
				return ok && target.Stops(queue)
			})
		}
		d.paused.Store(stops(""))
		for _, lane := range d.pauses {
			lane.Set(stops(lane.queue))
		}
	}
}
