package app

import (
	"context"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
)

// checked is what the last look at a database came to.
type checked struct {
	health *jobs.Health
	at     time.Time
}

func (d *database) makeChecker() *jobs.Checker {
	h := &d.Config.Health
	opts := jobs.CheckerOptions{
		Database:       d.DB,
		Timeout:        h.Timeout,
		Slow:           h.Slow,
		PoolSaturation: h.PoolSaturation,
		PoolWait:       h.PoolWait,
		IgnorePending:  h.PendingMigrations == config.PendingIgnore,
		Writes:         d.Config.HasLedger(),
		Jobs:           d.jobsVerdict,
	}
	if d.Migrations != nil {
		opts.Migrations = d.Migrations
	}
	return jobs.NewChecker(opts)
}

// check looks at the database now; checks narrows it. It waits for no work, and ends within the configured time.
func (d *database) check(ctx context.Context, checks ...string) *jobs.Health {
	return d.checker.Check(ctx, checks...)
}

// jobsVerdict is whether the database's jobs run, in the words of a check.
func (d *database) jobsVerdict() (jobs.Verdict, string) {
	switch now := d.condition(); now.State {
	case databaseDown:
		return jobs.Unhealthy, "they wait: " + now.Reason
	case databaseFull:
		return jobs.Degraded, "they wait: " + now.Reason
	case databaseBlocked:
		return jobs.Unhealthy, "they wait: " + now.Reason
	}
	if differs, _ := d.problem(effectDiffers); differs != "" {
		return jobs.Degraded, "streams or consumers are not as configured: " + differs
	}
	return jobs.Healthy, ""
}

// watchHealth looks at the database at each interval, and at once when its jobs stop or go on, until ctx ends.
func (d *database) watchHealth(ctx context.Context, log *zap.Logger) error {
	select {
	case <-d.gate.Probed(): // before it nothing could be said of the jobs
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var seen string
	var at time.Time
	for {
		state := d.condition().State + d.topologyNews()
		if state != seen || time.Since(at) >= d.Config.Health.Interval {
			seen, at = state, time.Now()
			d.checkHealth(ctx, log)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// checkHealth looks at the database and tells a change.
func (d *database) checkHealth(ctx context.Context, log *zap.Logger) {
	found := d.check(ctx)
	if ctx.Err() != nil {
		return
	}
	before := d.latest.Swap(&checked{health: found, at: time.Now()})
	switch {
	case found.Verdict == jobs.Healthy:
		if before != nil && before.health.Verdict != jobs.Healthy {
			log.Info("database is healthy again", zap.String("database", d.Name))
		}
	case before == nil || before.health.Verdict != found.Verdict:
		log.Warn("database is not healthy", zap.String("database", d.Name),
			zap.String("verdict", string(found.Verdict)), zap.Strings("reasons", found.Reasons))
	}
}

// verdict is what the last look came to; empty before the first one.
func (d *database) verdict() jobs.Verdict {
	if last := d.latest.Load(); last != nil {
		return last.health.Verdict
	}
	return ""
}
