package status

import (
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/report"
)

// obeyed returns the operators' pauses of the database and of its schedules that this runner obeys.
func obeyed(d *Database) []report.Pause {
	if d.pauses == nil {
		return nil
	}
	return d.pauses.Of(d.Name)
}

// paused returns the pauses that stop the database's jobs.
func (d *Database) paused() (out []report.Pause) {
	for _, p := range obeyed(d) {
		if target, ok := contract.ParsePauseKey(p.Key); ok && target.StopsJobs() {
			out = append(out, p)
		}
	}
	return out
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

// activePauses are the pauses in a heartbeat, and the jobs of paused lanes that were started and go on; nil: it is not paused.
func (d *Database) activePauses() (pauses []contract.ActivePause, started *int) {
	for _, p := range obeyed(d) {
		pauses = append(pauses, p.ActivePause)
	}
	if len(pauses) == 0 {
		return nil, nil
	}
	started = new(int)
	for _, l := range d.lanes {
		if s := l.state(); s.Paused {
			*started += s.Started
		}
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
