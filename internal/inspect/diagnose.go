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
func Diagnose(ctx context.Context, cfg *config.Config, name string, opts DiagnoseOptions, report func(Finding)) error {
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
	err = inspector.databases[0].diagnose(ctx, opts, report)
	return errors.Join(err, inspector.Close())
}

func (d *target) diagnose(ctx context.Context, opts DiagnoseOptions, report func(Finding)) error {
	diagnoser, ok := d.DB.(db.Diagnoser)
	if !ok {
		return &manager.ConfigError{Err: fmt.Errorf("the engine %s cannot be diagnosed", d.DB.Engine())}
	}
	for _, f := range d.about(diagnoser.Caveats()...) {
		report(f)
	}
	limited, cancel := context.WithTimeout(ctx, d.limit())
	stages := diagnoser.Stages(limited)
	cancel()
	passed := false // all of them, and there is a database to ask more
	for _, f := range d.about(stages...) {
		passed = f.Part == db.PartQuery && f.Grade != db.GradeFault
		report(f)
	}
	if !passed {
		return nil
	}
	if opts.Load > 0 {
		report(d.load(ctx, opts.Load))
	}
	limited, cancel = context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	if opts.Integrity {
		limited = ctx
	}
	found, err := diagnoser.Diagnose(limited, db.Diagnosis{PoolMax: d.Config.Pool.Max, Integrity: opts.Integrity})
	if err != nil {
		report(d.refused(db.PartServer, messageOf(err)))
		return nil
	}
	for _, f := range d.about(found...) {
		report(f)
	}
	limited, cancelMigrations := context.WithTimeout(ctx, diagnoseLimit)
	defer cancelMigrations()
	if _, _, f := d.folder(); f != nil {
		report(*f)
	}
	d.inspectMigrations(limited, report)
	return nil
}

// load reads with as many callers as the pool has connections, each until the time is over or a read fails.
func (d *target) load(ctx context.Context, length time.Duration) Finding {
	before := d.DB.Stats()
	var mu sync.Mutex // guards what follows
	var took []time.Duration
	var failed int
	var last error
	started := time.Now()
	var callers sync.WaitGroup
	count := max(1, d.Config.Pool.Max)
	for range count {
		callers.Go(func() {
			own, err := d.readUntil(ctx, started.Add(length))
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
			if err != nil {
				failed++
				last = err
			}
		})
	}
	callers.Wait()
	length = time.Since(started)
	slices.Sort(took)
	after := d.DB.Stats()
	at := func(percent int) time.Duration {
		if len(took) == 0 {
			return 0
		}
		return took[(len(took)-1)*percent/100].Round(time.Microsecond)
	}
	wait := time.Duration(0)
	if n := after.Acquires - before.Acquires; n > 0 {
		wait = ((after.AcquireWait - before.AcquireWait) / time.Duration(n)).Round(time.Microsecond)
	}
	f := d.finding(partPool, db.GradeOK, fmt.Sprintf("%d callers on %d connections for %s: %.0f trivial reads a second, median %s, 99 %% within %s, mean wait for a connection %s",
		count, after.Max, length.Round(100*time.Millisecond), float64(len(took))/length.Seconds(), at(50), at(99), wait), "")
	switch {
	case failed > 0:
		f.Grade, f.Remedy = db.GradeFault, "lower pool.max, or give the server more room"
		f.Text = fmt.Sprintf("%d of %d callers failed: %s", failed, count, messageOf(last))
	case at(99) > d.Config.Health.Slow:
		f.Grade, f.Remedy = db.GradeWarning, "look at the server's load and at the network"
	}
	return f
}

// readUntil reads repeatedly until the time is over or a read fails, and returns how long each read took.
func (d *target) readUntil(ctx context.Context, until time.Time) (took []time.Duration, _ error) {
	limit := max(d.Config.Pool.ConnectTimeout, time.Second)
	for ctx.Err() == nil && time.Now().Before(until) {
		started := time.Now()
		bounded, cancel := context.WithTimeout(ctx, 2*limit)
		set, err := d.DB.Read(bounded, db.Call{Label: "diagnose", Timeout: limit}, &dialect.Compiled{SQL: "SELECT 1 AS n"}, db.RowOptions{})
		cancel()
		if err != nil {
			return took, err
		}
		set.Free()
		took = append(took, time.Since(started))
	}
	return took, nil
}
