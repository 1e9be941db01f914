package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/manager"
	"dbrunner/internal/report"
)

// diagnoseLimit bounds each part of a diagnosis but for the load and the look at the stored data.
const diagnoseLimit = 20 * time.Second

// DiagnoseOptions define how far a diagnosis goes.
type DiagnoseOptions struct {
	Load      time.Duration // how long the pool is tried; 0: not at all
	Integrity bool          // also look at the stored data, where the engine can, for as long as it takes
}

// Diagnose goes the way to one configured database stage by stage, tries its pool with trivial reads, looks at the server
// and at the migrations, and reports every finding as it comes. Nothing is changed. The error is a *manager.ConfigError.
func Diagnose(ctx context.Context, cfg *config.Config, name string, opts DiagnoseOptions, tell func(Finding)) error {
	settings, ok := cfg.Databases[name]
	if !ok {
		return &manager.ConfigError{Err: fmt.Errorf("the configuration has no database %q", name)}
	}
	own := *cfg
	own.Databases = map[string]*config.Database{name: settings}
	inspector, err := New(&own)
	if err != nil {
		return err
	}
	err = inspector.databases[0].diagnose(ctx, opts, tell)
	return errors.Join(err, inspector.Close())
}

func (d *target) diagnose(ctx context.Context, opts DiagnoseOptions, tell func(Finding)) error {
	looks, ok := d.DB.(db.Diagnoser)
	if !ok {
		return &manager.ConfigError{Err: fmt.Errorf("the engine %s cannot be diagnosed", d.DB.Engine())}
	}
	for _, f := range d.about(looks.Caveats()...) {
		tell(f)
	}
	if !d.stages(ctx, looks, tell) {
		return nil
	}
	d.load(ctx, opts.Load, tell)
	limited, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	if opts.Integrity {
		limited = ctx
	}
	found, err := looks.Diagnose(limited, db.Diagnosis{PoolMax: d.Config.Pool.Max, Integrity: opts.Integrity})
	if err != nil {
		tell(d.refused(db.PartServer, messageOf(err)))
		return nil
	}
	for _, f := range d.about(found...) {
		tell(f)
	}
	limited, cancelMigrations := context.WithTimeout(ctx, diagnoseLimit)
	defer cancelMigrations()
	if _, _, f := d.folder(); f != nil {
		tell(*f)
	}
	d.inspectMigrations(limited, tell)
	return nil
}

// stages reports whether all of them were passed and there is a database to ask more.
func (d *target) stages(ctx context.Context, looks db.Diagnoser, tell func(Finding)) bool {
	ctx, cancel := context.WithTimeout(ctx, d.limit())
	defer cancel()
	passed := false
	for _, f := range d.about(looks.Stages(ctx)...) {
		passed = f.Part == db.PartQuery && f.Grade != db.GradeFault
		tell(f)
	}
	return passed
}

// loadSample is how a pool was found under a load.
type loadSample struct {
	mu     sync.Mutex
	took   []time.Duration
	failed int
	last   error
}

// load reads with as many callers as the pool has connections.
func (d *target) load(ctx context.Context, length time.Duration, tell func(Finding)) {
	if length <= 0 {
		return
	}
	before := d.DB.Stats()
	p := &loadSample{}
	begun := time.Now()
	var callers sync.WaitGroup
	for range max(1, d.Config.Pool.Max) {
		callers.Go(func() { p.call(ctx, d, begun.Add(length)) })
	}
	callers.Wait()
	tell(d.judged(p, time.Since(begun), before))
}

// call reads again and again until the time is over or a read fails.
func (p *loadSample) call(ctx context.Context, d *target, until time.Time) {
	var took []time.Duration
	var failed error
	for failed == nil && ctx.Err() == nil && time.Now().Before(until) {
		begun := time.Now()
		limit := max(d.Config.Pool.ConnectTimeout, time.Second)
		bounded, cancel := context.WithTimeout(ctx, 2*limit)
		set, err := d.DB.Read(bounded, db.Call{Label: "diagnose", Timeout: limit}, &dialect.Compiled{SQL: "SELECT 1 AS n"}, db.RowOptions{})
		cancel()
		if failed = err; err == nil {
			set.Free()
			took = append(took, time.Since(begun))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, took...)
	if failed != nil {
		p.failed++
		p.last = failed
	}
}

func (d *target) judged(p *loadSample, length time.Duration, before report.Pool) Finding {
	slices.Sort(p.took)
	after := d.DB.Stats()
	at := func(percent int) time.Duration {
		if len(p.took) == 0 {
			return 0
		}
		return p.took[(len(p.took)-1)*percent/100].Round(time.Microsecond)
	}
	wait := time.Duration(0)
	if n := after.Acquires - before.Acquires; n > 0 {
		wait = ((after.AcquireWait - before.AcquireWait) / time.Duration(n)).Round(time.Microsecond)
	}
	f := d.finding(partPool, db.GradeOK, fmt.Sprintf("%d callers on %d connections for %s: %.0f trivial reads a second, median %s, 99 %% within %s, mean wait for a connection %s",
		max(1, d.Config.Pool.Max), after.Max, length.Round(100*time.Millisecond), float64(len(p.took))/length.Seconds(), at(50), at(99), wait), "")
	switch {
	case p.failed > 0:
		f.Grade, f.Remedy = db.GradeFault, "lower pool.max, or give the server more room"
		f.Text = fmt.Sprintf("%d of %d callers failed: %s", p.failed, max(1, d.Config.Pool.Max), messageOf(p.last))
	case at(99) > d.Config.Health.Slow:
		f.Grade, f.Remedy = db.GradeWarning, "look at the server's load and at the network"
	}
	return f
}
