package app

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/worker"
)

// dualProber is the prober of a database that is reached through a pooler and past it.
type dualProber struct {
	worker.Prober
	direct db.Database
}

// Probe tries both ways: jobs may need either.
func (b *dualProber) Probe(ctx context.Context) error {
	if err := b.Prober.Probe(ctx); err != nil {
		return err
	}
	return b.direct.Probe(ctx)
}
