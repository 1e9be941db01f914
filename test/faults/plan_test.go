package main

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/test/faults/check"
)

// A seed repeats its jobs and its faults.
func TestSeedRepeatsItsPlan(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		a := newPlan(seed, "f1", 300, time.Second, false)
		b := newPlan(seed, "f1", 300, time.Second, false)
		require.Equal(t, a, b)
		require.NotEqual(t, a.requests, newPlan(seed+1, "f1", 300, time.Second, false).requests)

		r := &round{seed: seed, opts: &options{}, plan: a}
		same := &round{seed: seed, opts: &options{}, plan: b}
		r.faults, same.faults = r.planFaults(), same.planFaults()
		require.Equal(t, r.names(), same.names())
		require.Equal(t, r.plan, same.plan)
		for i := range r.faults {
			require.Equal(t, r.faults[i].first, same.faults[i].first)
			require.Equal(t, r.faults[i].rng.Uint64(), same.faults[i].rng.Uint64())
		}
	}
}

// Every sort of jobs is in a plan, and every nemesis has its turn.
func TestPlansHaveEverything(t *testing.T) {
	t.Parallel()
	p := newPlan(1, "f1", 3000, time.Second, false)
	found := map[string]bool{}
	for _, q := range p.requests {
		found[q.Class] = true
	}
	for _, c := range slices.Concat(classes(), rare(), orderedClasses(false)) {
		require.True(t, found[c.name], c.name)
	}
	worked := map[string]bool{}
	for seed := range uint64(6 * len(nemeses(false))) {
		r := &round{seed: seed, opts: &options{}, plan: newPlan(seed, "f1", 10, time.Second, false)}
		for _, f := range r.planFaults() {
			worked[f.name] = true
		}
	}
	require.Len(t, worked, len(nemeses(false)))
}

func TestUnknownNemesis(t *testing.T) {
	t.Parallel()
	require.Error(t, run(context.Background(), []string{"-only", "unknown"}))
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	require.Equal(t, percentiles{}, percentilesOf(nil))
	require.Equal(t, percentiles{P50: 2, P99: 3, Max: 3}, percentilesOf([]float64{3, 1, 2}))
}

// A runner that another nemesis kills while it ends has not ended badly, nor one that the signal ends before it can
// listen to any; one that dies by itself has.
func TestEndsOfRunnersThatAreKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expectedExit, silent, pardoned bool }{
		{expectedExit: true, pardoned: true},
		{silent: true, pardoned: true},
		{},
	} {
		f := &fleet{}
		script := "exec /bin/sleep 60"
		if !c.silent {
			script = "echo started; " + script
		}
		p, err := start("r1", filepath.Join(t.TempDir(), "r1.log"), nil, "/bin/sh", "-c", script)
		require.NoError(t, err)
		require.NoError(t, eventually(t.Context(), 10*time.Second, "the process has written", func() bool { return p.silent() == c.silent }))
		p.expectedExit.Store(c.expectedExit)
		p.kill()
		f.ended(p, time.Second)
		if c.pardoned {
			require.Empty(t, f.exits)
			f.ended(p, exitGrace+time.Second)
		}
		require.Len(t, f.exits, 1, "it was still there when its time was over, or died by itself")
	}
}

// A report that goes on has each seed once, and runs those again that broke a promise.
func TestResumedReport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.json")
	first, err := (&options{out: file, resume: true}).report()
	require.NoError(t, err)
	require.NoError(t, first.add(&summary{Seed: 1, Nemeses: "a", Jobs: 10}, file))
	require.NoError(t, first.add(&summary{Seed: 2, Nemeses: "b", Jobs: 10, Violations: []check.Violation{{Rule: "exits"}}}, file))

	second, err := (&options{out: file, resume: true}).report()
	require.NoError(t, err)
	require.True(t, second.has(1))
	require.False(t, second.has(2), "it broke a promise")
	require.False(t, second.has(3))
	require.NoError(t, second.add(&summary{Seed: 2, Nemeses: "b", Jobs: 12}, file))
	require.Equal(t, 2, second.Seeds)
	require.Equal(t, 22, second.Jobs)
	require.NoError(t, second.verdict())
}
