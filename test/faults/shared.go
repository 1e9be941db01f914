package main

// sharing lets half of the jobs share a commit, where databases know that.
func sharing(p *planner, b body) body {
	if p.home != depot && p.rng.IntN(2) == 0 {
		b["commit"] = "shared"
	}
	return b
}

// sharedMutants are mistakes of jobs that share a commit.
func sharedMutants() []mutant {
	return []mutant{{
		name: "shared_rows_outside", what: "the ledger rows of jobs that share a commit are written in transactions of their own, after it",
		edits: []edit{
			{"internal/db/postgres/sharedcommit.go", "\tentries := sharing.Entries(members)\n", "\tentries := sharing.Entries(members)[:0]\n"},
			{
				"internal/db/postgres/sharedcommit.go", "\tif err == nil {\n\t\tcrash.At(\"shared_committed\")",
				"\tfor _, p := range t.good {\n\t\tif err == nil && p.Entry != nil {\n\t\t\t_, _, err = t.record(p.Entry)\n\t\t}\n\t}\n" +
					"\tif err == nil {\n\t\tcrash.At(\"shared_committed\")",
			},
		},
		only: []string{"pg_cut_after"}, caught: []string{"effects"},
	}}
}
