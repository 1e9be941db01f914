package toy

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// Probe finds nothing to complain about.
func (d *Database) Probe(context.Context) error { return nil }

// Check connects to nothing.
func (d *Database) Check(context.Context) (db.CheckResult, error) {
	return db.CheckResult{Connect: 1, Query: 1, Version: "toy", Role: contract.RolePrimary}, nil
}
