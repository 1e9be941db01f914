package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/internal/verify"
	"dbrunner/test/faults/check"
)

// judged is the rule of what the judge of `runner verify` finds.
const judged = "verify"

// judge lets the judge that operators have reconcile what the run has left, in addition to the checker. It knows nothing of what
// was published.
func (r *round) judge(ctx context.Context) (found []check.Violation, err error) {
	connections := map[string]string{shop: r.world.postgres.URL(r.database), edge: r.sqlitePath()}
	if r.depot != nil {
		connections[depot] = r.depot.connection
	}
	for _, database := range r.databases {
		more, err := r.judgeDatabase(ctx, database, engines[database], connections[database])
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", database, err)
		}
		found = append(found, more...)
	}
	return found, nil
}

func (r *round) judgeDatabase(ctx context.Context, database, engine, connection string) (found []check.Violation, err error) {
	ledger, err := verify.OpenLedger(engine, connection, r.namespace, database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	report, err := verify.Run(ctx, verify.Options{
		NATS: r.nc, Namespace: r.namespace, Database: database, Ledger: ledger, Retention: 48 * time.Hour, Rate: 1_000_000,
		DeadLetters: []string{check.Failed, check.Rejected, check.Unknown, "too_many_deliveries", "result_id_taken"},
	})
	if err != nil {
		return nil, err
	}
	for _, f := range report.Findings {
		if !f.Warning {
			found = append(found, check.Violation{Rule: judged, Text: fmt.Sprintf("%s: %s of %s: %s", f.Kind, f.JobID, database, f.Text)})
		}
	}
	return found, nil
}
