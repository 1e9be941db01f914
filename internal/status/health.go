package status

import (
	"context"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
)

// checked is what the last look at a database came to.
type checked struct {
	health *contract.Health
	at     time.Time
}

// jobsVerdict is whether the database's jobs run, in the words of a check.
func (d *Database) jobsVerdict() (contract.Verdict, string) {
	now := d.condition()
	if pauses := d.paused(); len(pauses) > 0 {
		text := "they wait: " + pauseText(pauses)
		if now.State != contract.DatabasePaused {
			text += "; " + now.Reason
		}
		return contract.Unhealthy, text
	}
	switch now.State {
	case contract.DatabaseDown:
		return contract.Unhealthy, "they wait: " + now.Reason
	case contract.DatabaseResultsFull:
		return contract.Degraded, "they wait: " + now.Reason
	case contract.DatabaseBlocked:
		return contract.Unhealthy, "they wait: " + now.Reason
	}
	if differs, _ := d.problem(contract.EffectDiffers); differs != "" {
		return contract.Degraded, "streams or consumers need attention: " + differs
	}
	if paused := queuesPaused(d); paused != "" {
		return contract.Degraded, paused
	}
	if failed := queuesFailed(d); failed != "" {
		return contract.Degraded, failed
	}
	if impaired := d.pausesImpaired(); impaired != "" {
		return contract.Degraded, impaired
	}
	if trouble := d.outboxTrouble(); trouble != "" {
		return contract.Degraded, "outbox: " + trouble
	}
	if impaired := schedulesImpaired(d); impaired != "" {
		return contract.Degraded, impaired
	}
	return contract.Healthy, ""
}

// watchHealth looks at the database at each interval, and immediately when its jobs stop or go on, until ctx ends.
func (d *Database) watchHealth(ctx context.Context, log *zap.Logger) error {
	select {
	case <-d.Gate.Probed(): // before it nothing could be said of the jobs
	case <-ctx.Done():
		return nil
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	var seen string
	var at time.Time
	for {
		state := d.condition().State + d.topologyNews() + d.pauseNews() + d.outboxNews() + schedulesImpaired(d) + queuesFailed(d)
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

// checkHealth looks at the database and reports a change.
func (d *Database) checkHealth(ctx context.Context, log *zap.Logger) {
	found := d.checker.Check(ctx)
	if ctx.Err() != nil {
		return
	}
	before := d.latest.Swap(&checked{health: found, at: time.Now()})
	switch {
	case found.Verdict == contract.Healthy:
		if before != nil && before.health.Verdict != contract.Healthy {
			log.Info("database healthy", zap.String("database", d.Name))
		}
	case before == nil || before.health.Verdict != found.Verdict:
		log.Warn("database unhealthy", zap.String("database", d.Name),
			zap.String("verdict", string(found.Verdict)), zap.Strings("reasons", found.Reasons))
	}
}

// verdict is what the last look came to; empty before the first one.
func (d *Database) verdict() contract.Verdict {
	if last := d.latest.Load(); last != nil {
		return last.health.Verdict
	}
	return ""
}
