package status

import (
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus/topology"
)

func effectOf(p *topology.Problem) string {
	switch {
	case p.Stops():
		return contract.EffectStops
	case p.Note:
		return contract.EffectNote
	}
	return contract.EffectDiffers
}

// problems are those of the whole runner.
func (r *Runner) problems() []contract.TopologyProblem {
	found := r.topology.Problems()
	out := make([]contract.TopologyProblem, 0, len(found))
	for i := range found {
		p := &found[i]
		out = append(out, contract.TopologyProblem{
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
	stops, _ := d.problem(contract.EffectStops)
	differs, _ := d.problem(contract.EffectDiffers)
	note, _ := d.problem(contract.EffectNote)
	return stops + "|" + differs + "|" + note
}
