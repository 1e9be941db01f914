package effect

import (
	"fmt"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// Approval is what an approval says about the dry run that it is for.
type Approval struct {
	DryRun string // its id
	Digest string // of its effect
	Call   string // the statement that the subject of the approval names; empty: none
}

// kindDryRun is the kind of dry runs.
const kindDryRun = "dry_run"

// Find returns the dry run that an approval is for, from the result that is stored under its id. Where that is none, problem
// says so, and what to do.
func (a *Approval) Find(stored []byte) (dryRun *contract.Result, problem string) {
	if stored == nil {
		return nil, "no result is stored under " + a.DryRun + ": the dry run has not finished, or its result has expired; make a new one"
	}
	r, err := contract.ReadResult(stored)
	if err != nil {
		return nil, "the result under " + a.DryRun + " cannot be read; make a new dry run"
	}
	call := ""
	if r.Call != nil {
		call = r.Call.Name
	}
	switch {
	case r.Kind != kindDryRun:
		return nil, "the result under " + a.DryRun + " is that of a job of kind " + r.Kind + ", not of a dry run"
	case r.Status != contract.Succeeded:
		return nil, "the dry run " + a.DryRun + " has not succeeded: its status is " + string(r.Status) + "; approve one that has"
	case call != a.Call && call == "":
		return nil, "the dry run " + a.DryRun + " is of no named statement: publish its approval to approve, without a name"
	case call != a.Call:
		return nil, "the dry run " + a.DryRun + " is of the statement " + call + ": publish its approval to approve." + call
	case r.EffectDigest != a.Digest:
		return nil, "the effect of the dry run " + a.DryRun + " has another digest: look at its result again, and approve what you see there"
	}
	return r, ""
}

// Changed is the error of an execution whose effect is not that of its dry run. It has the counts that differ, and no digest.
func Changed(before []contract.Set, after []db.ResultSet) *db.Error {
	what := "every statement has affected and returned as many rows as in the dry run, but others, or its text or definition has changed"
	for i := range after {
		if i >= len(before) {
			break
		}
		then, rows := before[i].RowCount, after[i].RowCount
		verb := "returned"
		if before[i].RowsAffected != nil && *before[i].RowsAffected != after[i].RowsAffected {
			then, rows, verb = *before[i].RowsAffected, after[i].RowsAffected, "affected"
		}
		if then != rows {
			what = fmt.Sprintf("statements[%d] %s %d rows, and %d in the dry run", i, verb, rows, then)
			break
		}
	}
	return db.Errorf(db.ClassPermanent, contract.CodeEffectChanged, "the effect is not that of the dry run: %s"+db.RolledBack+"; make a new dry run", what)
}
