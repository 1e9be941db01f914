package inspect

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

// inspectLogin looks for what SQL of publishers can do although a job may only read, or write few rows.
func (d *target) inspectLogin(ctx context.Context, report func(Finding)) {
	sends, limited := d.takesSQL()
	inspector, ok := d.DB.(db.LoginInspector)
	if !sends || !ok {
		return
	}
	found, err := inspector.InspectLogin(ctx, d.limit())
	if err != nil {
		report(d.failed(ctx, db.PartLogin, "", err))
		return
	}
	for _, f := range found {
		if limited || f.Grade != db.GradeNote { // without a limit, a job may do whatever the login may
			report(d.finding(f.Part, f.Grade, f.Text, f.Remedy))
		}
	}
}

// takesSQL reports whether jobs bring SQL of their own, and whether the configuration limits what it may do: to reading, to what is rolled back or
// approved, or to a number of rows.
func (d *target) takesSQL() (sends, limited bool) {
	limited = true
	for _, offer := range manager.Policy(d.cfg, d.Config).Offers() {
		switch offer.Form {
		case "query", "dry_run":
			sends = true
		case "transaction", "statement":
			sends, limited = true, d.Config.MaxAffected > 0
		}
	}
	return sends, limited
}
