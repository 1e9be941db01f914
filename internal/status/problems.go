package status

import (
	"strings"
	"time"

	"dbrunner/internal/bus"
)

// topologyProblem is a stream or consumer that is not as the runner needs it, in its heartbeat.
type topologyProblem struct {
	Resource string    `json:"resource"`
	Database string    `json:"database,omitempty"` // missing: all of them
	Effect   string    `json:"effect"`             // stops, differs or note
	Problem  string    `json:"problem"`
	Remedy   string    `json:"remedy"`
	Since    time.Time `json:"since"`
}

// The effects of a problem.
const (
	effectStops   = "stops"   // jobs wait
	effectDiffers = "differs" // jobs run, under other settings than those configured; no runner starts
	effectNote    = "note"    // runners work with it
)

func effectOf(p *bus.Problem) string {
	switch {
	case p.Stops():
		return effectStops
	case p.Note:
		return effectNote
	}
	return effectDiffers
}

// problems are those of the whole runner.
func (r *Runner) problems() []topologyProblem {
	found := r.topology.Problems()
	out := make([]topologyProblem, 0, len(found))
	for i := range found {
		p := &found[i]
		out = append(out, topologyProblem{
			Resource: p.Resource, Database: p.Database, Effect: effectOf(p), Problem: p.String(), Remedy: p.Remedy(), Since: p.Since.UTC(),
		})
	}
	return out
}

// problem is what concerns a database with one of the effects, and since when; empty if there is none.
func (d *Database) problem(effect string) (text string, since time.Time) {
	if d.topology == nil {
		return "", time.Time{}
	}
	var texts []string
	found := d.topology.Problems()
	for i := range found {
		p := &found[i]
		if p.Database != "" && p.Database != d.Name || effectOf(p) != effect {
			continue
		}
		texts = append(texts, p.String()+" ("+p.Remedy()+")")
		if since.IsZero() || p.Since.Before(since) {
			since = p.Since
		}
	}
	return strings.Join(texts, "; "), since
}

// topologyNews is everything about streams and consumers whose change is worth a heartbeat and a health check.
func (d *Database) topologyNews() string {
	stops, _ := d.problem(effectStops)
	differs, _ := d.problem(effectDiffers)
	note, _ := d.problem(effectNote)
	return stops + "|" + differs + "|" + note
}
