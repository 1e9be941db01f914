package app

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/worker"
)

// The pauses between two trials to bring a database up to date at the start.
const (
	onStartFirst = time.Second
	onStartLimit = time.Minute
)

// onStart brings a database's schema up to date before its first job runs, and is its prober until then.
type onStart struct {
	worker.Prober
	migrator *migrator
	limit    time.Duration // of one trial
	log      *zap.Logger

	done   atomic.Bool
	reason atomic.Pointer[string] // of the last trial that failed
}

// Probe reports that jobs have to wait as long as the schema is not up to date.
func (o *onStart) Probe(ctx context.Context) error {
	if err := o.Prober.Probe(ctx); err != nil {
		return err
	}
	if o.done.Load() {
		return nil
	}
	why := "its migrations are being applied (migrate_on_start)"
	if reason := o.reason.Load(); reason != nil {
		why = "its migrations could not be applied (migrate_on_start): " + *reason
	}
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "database %s: %s", o.migrator.database.Name, why)
}

// Run tries until the schema is up to date or ctx ends. It returns nil.
func (o *onStart) Run(ctx context.Context) error {
	for pause := onStartFirst; ; pause = min(2*pause, onStartLimit) {
		if err := o.once(ctx); err == nil || ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// once tries once.
func (o *onStart) once(ctx context.Context) error {
	if o.done.Load() {
		return nil
	}
	report, err := o.migrator.Run(ctx, migration.Request{Action: migration.Up, Timeout: o.limit})
	if err != nil {
		reason := err.Error()
		o.reason.Store(&reason)
		if ctx.Err() == nil {
			o.log.Error("migrations not applied; jobs of the database wait", zap.Error(err))
		}
		return fmt.Errorf("database %s: migrate_on_start: %w", o.migrator.database.Name, err)
	}
	o.done.Store(true)
	o.log.Info("schema up to date", zap.String("version", report.After.Label), zap.Int("files", len(report.Changes)))
	return nil
}
