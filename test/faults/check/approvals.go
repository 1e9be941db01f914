package check

import (
	"encoding/json"
	"reflect"
)

// approvals: a dry run leaves no ledger row; what was approved is what its dry run has shown, under the one id that it may have.
// That a dry run and a refused approval leave no effect, the rule of effects checks.
func approvals(ix *index, report func(string, string, ...any)) {
	for name, r := range ix.Requests {
		stored := ix.stored[jobKey{r.Database, r.ID}]
		switch {
		case r.Kind == "dry_run" && ix.inLedger[jobKey{r.Database, r.ID}]:
			report(name, "it is a dry run, and the ledger of %s has a row of it", r.Database)
		case r.Kind == "dry_run" && stored != nil && (stored.Result.Status == Succeeded) != (stored.Result.EffectDigest != ""):
			report(name, "it is a dry run that has %s, with the digest %q", stored.Result.Status, stored.Result.EffectDigest)
		case r.Kind == "approve" && stored != nil && stored.Result.Status == Succeeded:
			approved(ix, r, &stored.Result, report)
		case r.Kind == "approve" && stored != nil && stored.Result.EffectDigest != "":
			report(name, "it was not approved, and its result has the digest")
		}
	}
}

// approved looks at an approval that has succeeded.
func approved(ix *index, r *Request, made *Result, report func(string, string, ...any)) {
	dryRun := ix.stored[jobKey{r.Database, r.Approves}]
	switch {
	case r.ID != r.Approves+"_approved":
		report(r.Name, "it approved the dry run %s under another id than that may have", r.Approves)
	case dryRun == nil || dryRun.Result.Kind != "dry_run" || dryRun.Result.Status != Succeeded:
		report(r.Name, "it was approved, and there is no dry run %s that has succeeded", r.Approves)
	case dryRun.Result.EffectDigest != r.Digest:
		report(r.Name, "it was approved with the digest %s, and that of the dry run %s is %s", r.Digest, r.Approves, dryRun.Result.EffectDigest)
	case !reflect.DeepEqual(dryRun.Result.Statements, made.Statements):
		report(r.Name, "it was approved, and its statements did something else than those of the dry run %s", r.Approves)
	default:
		written(ix, r, &dryRun.Result, report)
	}
}

// written compares the rows of effects that an approval has left with the one that its dry run has shown. The others have no amount.
func written(ix *index, r *Request, shown *Result, report func(string, string, ...any)) {
	if len(shown.Statements) == 0 || len(shown.Statements[0].Rows) != 1 {
		return // it shows none
	}
	var row struct {
		Amount int64 `json:"amount"`
	}
	if err := json.Unmarshal(shown.Statements[0].Rows[0], &row); err != nil {
		report(r.Name, "the dry run %s shows the row %s", r.Approves, shown.Statements[0].Rows[0])
	}
	var is int64
	for i := range ix.Effects {
		if e := &ix.Effects[i]; e.Request == r.Name {
			is += e.Amount
		}
	}
	if is != row.Amount {
		report(r.Name, "its rows have the amount %d, and the dry run %s has shown %d", is, r.Approves, row.Amount)
	}
}
