package inspect

import (
	"context"
	"fmt"

	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

// inspectOutbox looks whether rows of the outbox could be relayed, and who else may write them.
func (d *target) inspectOutbox(ctx context.Context, report func(Finding)) {
	if d.Outbox == nil {
		return
	}
	exists, err := d.Outbox.Exists(ctx)
	if err == nil && !exists && d.DB.Engine() == "sqlite" {
		report(d.finding(partOutbox, db.GradeNote, "the table dbrunner_outbox will be created", "a runner does so at its start"))
		return
	}
	counted, err := d.Outbox.Count(ctx)
	if err != nil {
		report(d.failed(ctx, partOutbox, "", err))
		return
	}
	report(d.finding(partOutbox, db.GradeOK, fmt.Sprintf("the table exists; %d rows wait", counted.Waiting), ""))
	if counted.Failed > 0 {
		report(d.finding(partOutbox, db.GradeWarning, fmt.Sprintf("%d rows have an error", counted.Failed), "runner outbox ls "+d.Name+" shows them"))
	}
	jobs, err := manager.OutboxOfJobs(d.cfg, d.Name)
	if err != nil {
		return // reported as the database's connection
	}
	defer func() { _ = jobs.Close() }() // nothing was written
	if writable, err := jobs.Writable(ctx); err == nil && writable {
		report(d.finding(partOutbox, db.GradeWarning, "the login of jobs may write to the outbox, so that users who may publish "+
			"transactions here reach every target", "take its privileges on the table away, see docs/security.md"))
	}
}
