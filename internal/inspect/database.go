package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/health"
)

// Connect reaches NATS and every database, all at the same time, each within a bounded time, and reports every finding as it comes;
// report is called by one goroutine at a time. It creates and changes nothing.
func (i *Inspector) Connect(ctx context.Context, report func(Finding)) {
	var mu sync.Mutex
	one := func(f Finding) {
		mu.Lock()
		defer mu.Unlock()
		report(f)
	}
	var inspections sync.WaitGroup
	hashes := map[string]string{}
	for _, d := range i.databases {
		if d.Catalog != nil {
			hashes[d.Name] = d.Catalog.Hash()
		}
	}
	inspections.Go(func() { (&natsInspection{cfg: i.cfg, report: one, hashes: hashes}).run(ctx) })
	for _, d := range i.databases {
		inspections.Go(func() { d.inspect(ctx, one) })
	}
	inspections.Wait()
}

// limit bounds a look at a database that connects again.
func (d *target) limit() time.Duration {
	return max(d.Config.Pool.ConnectTimeout, time.Second)*2 + d.Config.Health.Timeout
}

// inspect looks whether the database's jobs could run.
func (d *target) inspect(ctx context.Context, report func(Finding)) {
	ctx, cancel := context.WithTimeout(ctx, d.limit())
	defer cancel()
	found := health.NewChecker(health.Options{
		Database: d.DB, Timeout: d.limit(), Slow: d.Config.Health.Slow, Writes: d.Config.HasLedger(),
	}).Check(ctx, "connection", "query", "replication")
	if found.Verdict == contract.Unhealthy {
		if diagnoser, ok := d.DB.(db.Diagnoser); ok {
			if creates, err := diagnoser.DryRun(ctx); err == nil && len(creates) > 0 { // a runner is still to create it
				d.rehearse(ctx, "", d.DB, report)
				return
			}
		}
		for _, reason := range found.Reasons {
			report(d.refused(partConnection, reason))
		}
		return
	}
	f := d.finding(partConnection, db.GradeOK, "connected", "")
	if c := found.Checks.Connection; c != nil {
		f.Latency = time.Duration(c.Latency * float64(time.Second))
	}
	if q := found.Checks.Query; q != nil && q.Version != "" {
		f.Text += ", version " + q.Version
	}
	if found.Verdict == contract.Degraded {
		f.Grade, f.Text = db.GradeWarning, strings.Join(found.Reasons, "; ")
		f.Remedy = "runner diagnose " + d.Name + " shows which stage is slow"
	}
	report(f)
	d.rehearse(ctx, "", d.DB, report)
	if d.Direct != nil {
		d.rehearse(ctx, "past the pooler: ", d.Direct, report)
	}
	d.inspectLogin(ctx, report)
	d.inspectMigrations(ctx, report)
	d.inspectOutbox(ctx, report)
	d.inspectCatalog(ctx, report)
}

// refused is a fault in the words of an engine, whose remedy is in its text.
func (d *target) refused(part, text string) Finding {
	text, remedy, found := strings.Cut(text, "; ")
	if !found {
		remedy = "runner diagnose " + d.Name + " tests the path to it stage by stage"
	}
	return d.finding(part, db.GradeFault, text, remedy)
}

// failed is the finding of a check that ended with an error, which means nothing once its time is over.
func (d *target) failed(ctx context.Context, part, which string, err error) Finding {
	if ctx.Err() != nil {
		return d.finding(part, db.GradeFault, which+"not checked in time", "run the check again when the server is less busy")
	}
	return d.refused(part, which+messageOf(err))
}

// rehearse does what a probe would, without its effects.
func (d *target) rehearse(ctx context.Context, which string, database db.Database, report func(Finding)) {
	diagnoser, ok := database.(db.Diagnoser)
	if !ok {
		return
	}
	creates, err := diagnoser.DryRun(ctx)
	switch {
	case err != nil:
		report(d.failed(ctx, db.PartLedger, which, err))
	case len(creates) > 0:
		report(d.finding(db.PartLedger, db.GradeNote, which+strings.Join(creates, " and ")+" will be created", "a runner does so at its start (ledger.mode: manage)"))
	case d.Config.Ledger.Mode == config.LedgerOff:
		report(d.finding(db.PartLedger, db.GradeOK, which+"off", ""))
	default:
		report(d.finding(db.PartLedger, db.GradeOK, which+"the table exists, with the permissions on it", ""))
	}
	if advises, ok := database.(interface{ Advice() []string }); ok {
		for _, advice := range advises.Advice() {
			report(d.finding(db.PartLogin, db.GradeWarning, advice, "docs/sqlserver.md"))
		}
	}
}

// inspectMigrations compares the schema with the folder.
func (d *target) inspectMigrations(ctx context.Context, report func(Finding)) {
	if d.Migrations == nil {
		return // reported without a connection
	}
	r, err := d.Migrations.Run(ctx, migration.Request{Action: migration.Validate})
	if _, _, unusable := d.folder(); errors.Is(err, fs.ErrNotExist) || unusable != nil {
		return // reported without a connection
	}
	if err != nil {
		report(d.failed(ctx, partMigrations, "", err))
		return
	}
	found := 0
	add := func(grade db.Grade, remedy, format string, args ...any) {
		found++
		report(d.finding(partMigrations, grade, fmt.Sprintf(format, args...), remedy))
	}
	switch {
	case r.Running != nil:
		add(db.GradeNote, "", "a migration runs now")
	case r.Dirty:
		add(db.GradeFault, "check its effects, then run runner migrate repair", "a migration was interrupted at version %s", r.After.Label)
	}
	if r.Problem != "" {
		add(db.GradeFault, "check its effects, then run runner migrate repair", "%s", r.Problem)
	}
	for i := range r.Faults {
		add(db.GradeFault, "runner migrate validate lists all of them", "%s", r.Faults[i].String())
	}
	if n := len(r.Pending); n > 0 {
		add(db.GradeWarning, "runner migrate up, a job of kind migration, or migrate_on_start: true", "%d pending, up to version %s", n, r.Latest.Label)
	}
	if found == 0 {
		add(db.GradeOK, "", "at version %s, nothing is pending", r.After.Label)
	}
}
