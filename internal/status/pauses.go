package status

import (
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/report"
)

// obeyed returns the operators' pauses of the database, its queues and its schedules that this runner obeys.
func obeyed(d *Database) []report.Pause {
	if d.pauses == nil {
		return nil
	}
	return d.pauses.Of(d.Name)
}

// paused returns the pauses of the database as a whole.
func (d *Database) paused() (out []report.Pause) {
	for _, p := range obeyed(d) {
		if target, ok := contract.ParsePauseKey(p.Key); ok && target.Stops("") {
			out = append(out, p)
		}
	}
	return out
}

// queuesPaused describes the pauses of single queues for people; empty if there are none.
func queuesPaused(d *Database) string {
	var texts []string
	for _, p := range obeyed(d) {
		target, ok := contract.ParsePauseKey(p.Key)
		if ok && slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.queue != "" && l.queue == target.Queue }) {
			texts = append(texts, "queue "+target.Queue+": "+pauseText([]report.Pause{p}))
		}
	}
	return strings.Join(texts, "; ")
}

// pausesImpaired returns why an operator cannot pause the database, or should look at where pauses are kept; empty: nothing.
func (d *Database) pausesImpaired() string {
	if d.pauses == nil {
		return ""
	}
	return d.pauses.Trouble()
}

// pauseText describes pauses for people; empty if there are none.
func pauseText(pauses []report.Pause) string {
	var texts []string
	for i := range pauses {
		text := "paused"
		if by := pauses[i].By; by != "" {
			text += " by " + by
		}
		if reason := pauses[i].Reason; reason != "" {
			text += ": " + reason
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// PausedText describes the pauses of a lane for people; empty: the lane is not paused.
func (d *Database) PausedText(name string) string {
	for _, l := range d.lanes {
		if l.name == name && l.state().Paused {
			return pauseText(d.paused())
		}
	}
	return ""
}

// activePauses are the pauses in a heartbeat, each with the jobs of its lanes that were started and go on, and the number of
// all of these; nil: nothing is paused.
func (d *Database) activePauses() (pauses []contract.ActivePause, started *int) {
	all := obeyed(d)
	if len(all) == 0 {
		return nil, nil
	}
	started = new(int)
	byQueue := make(map[string]int, len(d.lanes))
	for _, l := range d.lanes {
		if s := l.state(); s.Paused {
			*started += s.Started
			byQueue[l.queue] += s.Started
		}
	}
	for _, p := range all {
		target, _ := contract.ParsePauseKey(p.Key)
		for queue, n := range byQueue {
			if target.Stops(queue) {
				p.Running += n
			}
		}
		pauses = append(pauses, p.ActivePause)
	}
	return pauses, started
}

// pauseNews is everything about pauses whose change is worth a heartbeat and a health check.
func (d *Database) pauseNews() string {
	text := d.pausesImpaired()
	for _, p := range obeyed(d) {
		text += " " + p.Key + " " + strconv.FormatUint(p.Revision, 10)
	}
	return text
}
