package health_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/health"
	"dbrunner/internal/report"
)

// fakeDatabase is a database whose state the test sets.
type fakeDatabase struct {
	vitals db.CheckResult
	err    error
	hangs  bool // it answers nothing until the check is given up
	stats  report.Pool
	checks int
}

func (p *fakeDatabase) Check(ctx context.Context) (db.CheckResult, error) {
	p.checks++
	if p.hangs {
		<-ctx.Done()
		return p.vitals, db.Errorf(db.ClassCanceled, contract.CodeCanceled, "given up").Because(ctx.Err())
	}
	return p.vitals, p.err
}

func (p *fakeDatabase) Stats() report.Pool { return p.stats }

// schema is a state of migrations that the test makes up.
type schema struct {
	status contract.Migrations
	err    error
	hangs  bool
	none   bool
}

func (s *schema) MigrationStatus(ctx context.Context) (*contract.Migrations, error) {
	switch {
	case s.hangs:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.none:
		return nil, nil
	}
	return &s.status, s.err
}

func well() *fakeDatabase {
	return &fakeDatabase{
		vitals: db.CheckResult{Connect: 3 * time.Millisecond, Query: 500 * time.Microsecond, Version: "15.4", Role: contract.RolePrimary},
		stats: report.Pool{
			Max: 4, Total: 3, Idle: 1, InUse: 2, Acquires: 120, CanceledAcquires: 1, AcquireWait: 1500 * time.Millisecond,
		},
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	unavailable := db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "the connection was refused")
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		change  func(*fakeDatabase)
		options func(*health.Options)
		want    contract.Verdict
		reasons []string
	}{
		"well":         {want: contract.Healthy},
		"unreachable":  {change: func(p *fakeDatabase) { p.vitals, p.err = db.CheckResult{}, unavailable }, want: contract.Unhealthy, reasons: []string{"connection: the connection was refused"}},
		"no answer":    {change: func(p *fakeDatabase) { p.vitals.Query, p.err = 0, unavailable }, want: contract.Unhealthy, reasons: []string{"query: the connection was refused"}},
		"hangs":        {change: func(p *fakeDatabase) { p.vitals, p.hangs = db.CheckResult{}, true }, want: contract.Unhealthy, reasons: []string{"connection: no answer within 200ms"}},
		"slow to join": {change: func(p *fakeDatabase) { p.vitals.Connect = 1500 * time.Millisecond }, want: contract.Degraded, reasons: []string{"connection: connecting took 1.5s, more than 1s"}},
		"slow":         {change: func(p *fakeDatabase) { p.vitals.Query = 2 * time.Second }, want: contract.Degraded, reasons: []string{"query: a trivial query took 2s, more than 1s"}},
		"full of work": {change: func(p *fakeDatabase) { p.stats.InUse, p.stats.Waiting, p.stats.LongestWait = 4, 7, 29*time.Second }, want: contract.Healthy},
		"full":         {change: func(p *fakeDatabase) { p.stats.InUse = 4 }, want: contract.Healthy},
		"exhausted": {
			change: func(p *fakeDatabase) { p.stats.InUse, p.stats.Waiting, p.stats.LongestWait = 4, 7, 30*time.Second },
			want:   contract.Degraded, reasons: []string{"pool: 4 of 4 connections are in use and 7 calls wait for one, the first for 30s"},
		},
		"half the pool": {
			change:  func(p *fakeDatabase) { p.stats.Waiting, p.stats.LongestWait = 1, time.Minute },
			options: func(o *health.Options) { o.PoolSaturation = 50 },
			want:    contract.Degraded, reasons: []string{"pool: 2 of 4 connections are in use and 1 calls wait for one, the first for 1m0s"},
		},
		"less than half": {
			change:  func(p *fakeDatabase) { p.stats.InUse, p.stats.Waiting, p.stats.LongestWait = 1, 1, time.Minute },
			options: func(o *health.Options) { o.PoolSaturation = 50 }, want: contract.Healthy,
		},
		"any pool": {
			change:  func(p *fakeDatabase) { p.stats.InUse, p.stats.Waiting, p.stats.LongestWait = 4, 7, time.Hour },
			options: func(o *health.Options) { o.PoolSaturation = 0 }, want: contract.Healthy,
		},
		"read-only": {
			change: func(p *fakeDatabase) { p.vitals.ReadOnly = "it is a standby" },
			want:   contract.Unhealthy, reasons: []string{"replication: it is a standby, so that jobs that write cannot run"},
		},
		"read-only by intention": {
			change:  func(p *fakeDatabase) { p.vitals.ReadOnly = "it is a standby" },
			options: func(o *health.Options) { o.Writes = false }, want: contract.Healthy,
		},
		"pending": {
			options: func(o *health.Options) {
				o.Migrations = &schema{status: contract.Migrations{Current: "7", Latest: "9", Pending: 2}}
			},
			want: contract.Degraded, reasons: []string{"migrations: not applied yet: 2, up to version 9"},
		},
		"pending and ignored": {
			options: func(o *health.Options) {
				o.Migrations, o.IgnorePending = &schema{status: contract.Migrations{Pending: 2}}, true
			}, want: contract.Healthy,
		},
		"dirty": {
			options: func(o *health.Options) {
				o.Migrations, o.IgnorePending = &schema{status: contract.Migrations{Current: "8", Dirty: true}}, true
			},
			want: contract.Unhealthy, reasons: []string{"migrations: a migration was interrupted at version 8: check its effects and repair it"},
		},
		"dirty, and it is known why": {
			options: func(o *health.Options) {
				o.Migrations = &schema{status: contract.Migrations{Dirty: true, Problem: "V8__x.sql stopped at statement 3"}}
			},
			want: contract.Unhealthy, reasons: []string{"migrations: V8__x.sql stopped at statement 3"},
		},
		"refused": {
			options: func(o *health.Options) {
				o.Migrations = &schema{status: contract.Migrations{Problem: "V8__x.sql was edited"}}
			},
			want: contract.Degraded, reasons: []string{"migrations: V8__x.sql was edited"},
		},
		"none": {
			options: func(o *health.Options) { o.Migrations = &schema{none: true} }, want: contract.Healthy,
		},
		"running, start unknown": {
			options: func(o *health.Options) {
				o.Migrations = &schema{status: contract.Migrations{Running: &contract.RunningMigration{}}}
			},
			want: contract.Degraded, reasons: []string{"migrations: a migration runs"},
		},
		"running": {
			options: func(o *health.Options) {
				o.Migrations = &schema{status: contract.Migrations{Dirty: true, Pending: 1, Running: &contract.RunningMigration{Since: since}}}
			},
			want: contract.Degraded, reasons: []string{"migrations: a migration runs since 2026-03-01T12:00:00Z"},
		},
		"unreadable": {
			options: func(o *health.Options) { o.Migrations = &schema{err: errors.New("the history is locked")} },
			want:    contract.Degraded, reasons: []string{"migrations: their state could not be read: the history is locked"},
		},
		"behind a lock": {
			options: func(o *health.Options) { o.Migrations = &schema{hangs: true} },
			want:    contract.Degraded, reasons: []string{"migrations: their state could not be read: no answer within 200ms"},
		},
		"a database that is gone has no state to wait for": {
			change:  func(p *fakeDatabase) { p.vitals, p.err = db.CheckResult{}, unavailable },
			options: func(o *health.Options) { o.Migrations = &schema{hangs: true} },
			want:    contract.Unhealthy, reasons: []string{"connection: the connection was refused"},
		},
		"jobs wait": {
			options: func(o *health.Options) {
				o.Jobs = func() (contract.Verdict, string) { return contract.Unhealthy, "they wait: the ledger is missing" }
			},
			want: contract.Unhealthy, reasons: []string{"jobs: they wait: the ledger is missing"},
		},
		"the worst counts": {
			change: func(p *fakeDatabase) {
				p.vitals.Connect, p.vitals.ReadOnly, p.stats.InUse = 2*time.Second, "it is a standby", 4
				p.stats.Waiting, p.stats.LongestWait = 1, time.Minute
			},
			want: contract.Unhealthy, reasons: []string{
				"connection: connecting took 2s, more than 1s", "replication: it is a standby, so that jobs that write cannot run",
				"pool: 4 of 4 connections are in use and 1 calls wait for one, the first for 1m0s",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := well()
			if tt.change != nil {
				tt.change(p)
			}
			opts := health.Options{Database: p, Timeout: 200 * time.Millisecond, Slow: time.Second, PoolSaturation: 100, PoolWait: 30 * time.Second, Writes: true}
			if tt.options != nil {
				tt.options(&opts)
			}
			started := time.Now()
			got := health.NewChecker(opts).Check(t.Context())
			require.Less(t, time.Since(started), 5*time.Second)
			require.Equal(t, tt.want, got.Verdict)
			require.Equal(t, append([]string{}, tt.reasons...), got.Reasons)
		})
	}
}

func TestChecksNarrow(t *testing.T) {
	t.Parallel()
	p := well()
	c := health.NewChecker(health.Options{Database: p, Migrations: &schema{hangs: true}})
	got := c.Check(t.Context(), "pool")
	require.Zero(t, p.checks, "no connection is made for it")
	require.NotNil(t, got.Checks.Pool)
	require.Nil(t, got.Checks.Connection)
	got = c.Check(t.Context(), "replication")
	require.NotNil(t, got.Checks.Replication)
	require.Nil(t, got.Checks.Connection)
	require.Nil(t, got.Checks.Query)
	require.Nil(t, got.Checks.Pool)
	p.vitals, p.err = db.CheckResult{}, errors.New("gone")
	require.Equal(t, contract.Unhealthy, c.Check(t.Context(), "query").Verdict, "a query needs a connection")
}
