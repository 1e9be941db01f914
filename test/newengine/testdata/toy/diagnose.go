package toy

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// inspection is a diagnosis under way.
type inspection struct {
	engine.Findings

	d *Database
}

// Caveats is nothing.
func (d *Database) Caveats() []db.Finding { return nil }

// Stages is one.
func (d *Database) Stages(context.Context) []db.Finding {
	return []db.Finding{engine.QueryStage(1, nil)}
}

// Diagnose counts.
func (d *Database) Diagnose(ctx context.Context, _ db.Diagnosis) ([]db.Finding, error) {
	l := &inspection{d: d}
	l.Run(ctx, []engine.Stage{{Part: db.PartServer, Run: l.server}}, func() bool { return false }, "", error.Error)
	return l.Findings, nil
}

func (l *inspection) server(context.Context) error {
	l.OK(db.PartServer, "%d keys", len(l.d.store.values))
	return nil
}

// DryRun creates nothing.
func (d *Database) DryRun(context.Context) ([]string, error) { return nil, nil }
