package app

import (
	"context"

	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
	"dbrunner/internal/worker"
)

// directConnections bounds the sessions past a pooler, in which statements outside of transactions run.
const directConnections = 4

// openDirect opens a database past the pooler in transaction mode before it; nil where there is none, or no way past it.
func openDirect(cfg *config.Config, name string, e engine) (db.Database, error) {
	settings := cfg.Databases[name]
	if settings.Pooler != config.PoolerTransaction || withoutSessions(settings) {
		return nil, nil
	}
	opts := dbOptions(cfg, name)
	connectBy(&opts, settings.DirectConnectionString)
	opts.TransactionPool = false
	opts.Pool.Min, opts.Pool.Max = 0, min(directConnections, opts.Pool.Max)
	opened, err := e.open(opts)
	return opened, connectionFault(settings.DirectConnectionString, err)
}

// autocommitExecutor is what runs statements outside of transactions; nil: the database itself.
func (d *database) autocommitExecutor() jobs.AutocommitExecutor {
	if d.direct == nil {
		return nil
	}
	return d.direct
}

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
