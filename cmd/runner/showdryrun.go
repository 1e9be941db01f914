package main

import (
	"context"
	"fmt"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/app"
)

const dryRunJob = `{
  "id": "demo-dry-run",
  "statements": [
    {"sql": "UPDATE accounts SET balance = balance + 10 WHERE balance < 300 RETURNING owner, balance"}
  ]
}`

// approval shows a dry run, and approves it.
func (s *show) approval(ctx context.Context) error {
	s.title("A dry run, and its approval", "the transaction is executed, shown and rolled back; it is committed only if its effect stays the same")
	shown := func(r *client.Result) bool { return r.Effect == contract.RolledBack && r.EffectDigest != "" }
	if err := s.try(ctx, "dry_run", dryRunJob, "demo-dry-run", contract.Succeeded, shown); err != nil {
		return err
	}
	r, err := s.client.Result(ctx, app.DemoDatabase, "demo-dry-run")
	if err != nil {
		return err
	}
	s.line("            " + s.style.dim("effect "+r.EffectDigest))
	s.line("")
	s.line("   A second user approves this effect (runner approve demo demo-dry-run does the same):")
	body := fmt.Sprintf("{\n  \"id\": %q,\n  \"approves\": %q,\n  \"expect_digest\": %q\n}", contract.ApprovalID(r.JobID), r.JobID, r.EffectDigest)
	return s.try(ctx, "approve", body, contract.ApprovalID(r.JobID), contract.Succeeded, func(r *client.Result) bool {
		return r.Effect == contract.ExactlyOnce && len(r.Statements) == 1
	})
}
