package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/report"
)

// MigrationStatus reports how a database's schema stands.
type MigrationStatus interface {
	// MigrationStatus returns soon after its context's end at the latest, and never waits for the lock of a migration
	// that runs. nil: there are none. The text of its error is safe to show.
	MigrationStatus(ctx context.Context) (*contract.Migrations, error)
}

// Checkable is the part of db.Database that a check needs.
type Checkable interface {
	Check(ctx context.Context) (db.CheckResult, error)
	Stats() report.Pool
}

// Options is what a database's checks are measured by.
type Options struct {
	Database       Checkable
	Timeout        time.Duration // of a check as a whole; 0: 5 s
	Slow           time.Duration // a connection or query that takes longer degrades; 0: any time will do
	PoolSaturation int           // the share of connections in use that degrades, percent; 0: any will do
	PoolWait       time.Duration // and calls must have waited this long for a connection
	IgnorePending  bool          // pending migrations do not degrade
	Writes         bool          // jobs may write: a database that takes no writes is unhealthy

	Migrations MigrationStatus                   // nil: no migrations are configured
	Jobs       func() (contract.Verdict, string) // whether jobs run, and why not; nil: not known
}

// defaultCheckTimeout bounds a check where nothing else is said.
const defaultCheckTimeout = 5 * time.Second

// Checker checks one database. It may be used from many goroutines concurrently; each check has a connection of its own.
type Checker struct{ opts Options }

// NewChecker returns the checker of one database.
func NewChecker(opts Options) *Checker {
	if opts.Timeout <= 0 {
		opts.Timeout = defaultCheckTimeout
	}
	return &Checker{opts: opts}
}

// Check makes the checks of these words, all if there are none, within the checker's time limit. It waits for no work
// of the runner's, no connection of the pool and no migration.
func (c *Checker) Check(ctx context.Context, checks ...string) *contract.Health {
	if len(checks) == 0 {
		checks = contract.HealthChecks()
	}
	e := &checkRun{opts: &c.opts, checks: checks, limit: c.opts.Timeout, health: &contract.Health{Verdict: contract.Healthy, Reasons: []string{}}}
	if deadline, ok := ctx.Deadline(); ok {
		e.limit = min(e.limit, time.Until(deadline).Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	e.reach(ctx)
	e.pool()
	e.migrations(ctx)
	if e.wants(contract.CheckJobs) && c.opts.Jobs != nil {
		verdict, reason := c.opts.Jobs()
		if verdict != contract.Healthy {
			e.addReason(contract.CheckJobs, verdict, reason)
		}
		e.health.Checks.Jobs = &contract.IntakeHealth{Verdict: verdict}
	}
	return e.health
}

// checkRun is one check under way.
type checkRun struct {
	opts   *Options
	checks []string // that are wanted
	limit  time.Duration
	health *contract.Health
	dead   bool // the database could not be reached
}

func (e *checkRun) wants(check string) bool { return slices.Contains(e.checks, check) }

// addReason notes what a check has found to be wrong and returns the verdict, which may make the whole worse.
func (e *checkRun) addReason(check string, v contract.Verdict, reason string) contract.Verdict {
	e.health.Reasons = append(e.health.Reasons, check+": "+reason)
	if v == contract.Unhealthy || e.health.Verdict == contract.Healthy {
		e.health.Verdict = v
	}
	return v
}

// reach connects and asks, where one of the checks needs it. That there is no connection, or no answer, is reported whichever
// of them needs it.
func (e *checkRun) reach(ctx context.Context) {
	connection, query, replication := e.wants(contract.CheckConnection), e.wants(contract.CheckQuery), e.wants(contract.CheckReplication)
	if !connection && !query && !replication {
		return
	}
	v, err := e.opts.Database.Check(ctx)
	e.dead = err != nil
	slow := func(took time.Duration) bool { return e.opts.Slow > 0 && took > e.opts.Slow }
	const tooSlow = "%s took %s, more than %s"

	if v.Connect == 0 || connection {
		found := &contract.ConnectionHealth{Verdict: contract.Healthy, Latency: v.Connect.Seconds()}
		switch {
		case v.Connect == 0:
			found.Verdict = e.addReason(contract.CheckConnection, contract.Unhealthy, e.why(ctx, err))
		case slow(v.Connect):
			found.Verdict = e.addReason(contract.CheckConnection, contract.Degraded,
				fmt.Sprintf(tooSlow, "connecting", v.Connect.Round(time.Millisecond), e.opts.Slow))
		}
		e.health.Checks.Connection = found
	}
	if v.Connect == 0 {
		return
	}
	if err != nil || query {
		found := &contract.QueryHealth{Verdict: contract.Healthy, Latency: v.Query.Seconds(), Version: v.Version}
		switch {
		case err != nil:
			found.Verdict = e.addReason(contract.CheckQuery, contract.Unhealthy, e.why(ctx, err))
		case slow(v.Query):
			found.Verdict = e.addReason(contract.CheckQuery, contract.Degraded,
				fmt.Sprintf(tooSlow, "a trivial query", v.Query.Round(time.Millisecond), e.opts.Slow))
		}
		e.health.Checks.Query = found
	}
	if err == nil && replication {
		found := &contract.ReplicationHealth{Verdict: contract.Healthy, Role: v.Role, ReadOnly: v.ReadOnly != ""}
		if found.ReadOnly && e.opts.Writes {
			found.Verdict = e.addReason(contract.CheckReplication, contract.Unhealthy, v.ReadOnly+", so that jobs that write cannot run")
		}
		e.health.Checks.Replication = found
	}
}

func (e *checkRun) pool() {
	if !e.wants(contract.CheckPool) {
		return
	}
	s := e.opts.Database.Stats()
	found := &contract.PoolHealth{
		Verdict: contract.Healthy, Max: s.Max, Open: s.Total, Idle: s.Idle, InUse: s.InUse, Waiting: s.Waiting,
		Acquires: s.Acquires, CanceledAcquires: s.CanceledAcquires, AcquireWait: s.AcquireWait.Seconds(),
		LongestWait: s.LongestWait.Seconds(),
	}
	// A pool full of work is what a backlog looks like: only calls that wait for long are a sign of trouble.
	limit := e.opts.PoolSaturation
	if limit > 0 && s.InUse*100 >= s.Max*limit && s.Waiting > 0 && s.LongestWait >= e.opts.PoolWait {
		found.Verdict = e.addReason(contract.CheckPool, contract.Degraded,
			fmt.Sprintf("%d of %d connections are in use and %d calls wait for one, the first for %s",
				s.InUse, s.Max, s.Waiting, s.LongestWait.Round(100*time.Millisecond)))
	}
	e.health.Checks.Pool = found
}

// migrations asks for the schema's state, unless the database did not answer before.
func (e *checkRun) migrations(ctx context.Context) {
	if !e.wants(contract.CheckMigrations) || e.opts.Migrations == nil || e.dead {
		return
	}
	status, err := e.opts.Migrations.MigrationStatus(ctx)
	if err != nil {
		status = &contract.Migrations{Problem: "their state could not be read: " + e.why(ctx, err)}
	}
	if status == nil {
		return
	}
	found := &contract.MigrationHealth{Verdict: contract.Healthy, Migrations: *status}
	if verdict, reason := e.judge(status); verdict != contract.Healthy {
		found.Verdict = e.addReason(contract.CheckMigrations, verdict, reason)
	}
	e.health.Checks.Migrations = found
}

func (e *checkRun) judge(m *contract.Migrations) (contract.Verdict, string) {
	switch {
	case m.Running != nil && m.Running.Since.IsZero():
		return contract.Degraded, "a migration runs"
	case m.Running != nil: // what is pending or dirty now is its doing
		return contract.Degraded, "a migration runs since " + m.Running.Since.UTC().Format(time.RFC3339)
	case m.Dirty && m.Problem == "":
		return contract.Unhealthy, "a migration was interrupted at version " + m.Current + ": check its effects and repair it"
	case m.Dirty:
		return contract.Unhealthy, m.Problem
	case m.Problem != "":
		return contract.Degraded, m.Problem
	case m.Pending > 0 && !e.opts.IgnorePending:
		return contract.Degraded, fmt.Sprintf("not applied yet: %d, up to version %s", m.Pending, m.Latest)
	}
	return contract.Healthy, ""
}

// why returns why something failed. A timeout explains more than the error that it caused.
func (e *checkRun) why(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "no answer within " + e.limit.String()
	}
	if failed, ok := errors.AsType[*db.Error](err); ok {
		return failed.Message
	}
	return err.Error()
}
