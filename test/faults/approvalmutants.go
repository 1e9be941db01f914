package main

// approvalMutants are mistakes of dry runs and approvals.
func approvalMutants() []mutant {
	return []mutant{
		{
			name: "digest_after_commit", what: "the digest of an approval's effect is compared after its COMMIT",
			edits: []edit{
				{
					"internal/jobs/approval.go", "\treturn w.transact(ctx, x, rows, func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {\n",
					"\tvar changed error\n\tout, err := w.transact(ctx, x, rows, func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {\n",
				},
				{"internal/jobs/approval.go", "\t\t\treturn nil, effect.Changed(a.before, sets)\n", "\t\t\tchanged = effect.Changed(a.before, sets)\n"},
				{
					"internal/jobs/approval.go", "\t\treturn x.Seal(ctx, x.statementsAnswer(sets))\n\t})\n",
					"\t\treturn x.Seal(ctx, x.statementsAnswer(sets))\n\t})\n\tif err == nil {\n\t\terr = changed\n\t}\n\treturn out, err\n",
				},
			},
			only: []string{"none"}, caught: []string{"approvals"},
		},
		{
			name: "approval_under_any_id", what: "a dry run is approved under whatever id an approval has",
			edits: []edit{{
				"internal/jobs/approval.go", "\t\tif w.DryRun != \"\" && job.ID != contract.ApprovalID(w.DryRun) {\n",
				"\t\tif false && job.ID != contract.ApprovalID(w.DryRun) {\n",
			}},
			only: []string{"none"}, caught: []string{"approvals"},
		},
		{
			name: "dry_run_committed", what: "a dry run is committed",
			edits: []edit{{"internal/db/postgres/dryrun.go", "\tif !t.tx.DryRun {\n", "\tif true {\n"}},
			only:  []string{"none"}, caught: []string{"effects"},
		},
	}
}
