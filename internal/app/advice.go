package app

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"dbrunner/internal/worker"
)

// adviser is an engine with advice for the operator of a database that it has reached.
type adviser interface{ Advice() []string }

// prober probes a database, and reports each piece of advice once.
type prober struct {
	worker.Prober
	name     string
	adviser  adviser
	log      *zap.Logger
	reported []string
}

func (d *database) prober(log *zap.Logger) worker.Prober {
	advises, ok := d.DB.(adviser)
	if !ok {
		return d.DB
	}
	return &prober{Prober: d.DB, name: d.Name, adviser: advises, log: log}
}

// Probe is called by one goroutine, the gate's.
func (p *prober) Probe(ctx context.Context) error {
	if err := p.Prober.Probe(ctx); err != nil {
		return err
	}
	for _, advice := range p.adviser.Advice() {
		if !slices.Contains(p.reported, advice) {
			p.reported = append(p.reported, advice)
			p.log.Warn(advice, zap.String("database", p.name))
		}
	}
	return nil
}
