package dbtest

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

func testDiagnose(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Stages":      testStages,
		"Unreachable": testStagesUnreachable,
		"GivesUp":     testStagesGivesUp,
		"Finds":       testDiagnoseFinds,
		"Rehearse":    testRehearse,
	})
}

func diagnoser(t *testing.T, d db.Database) db.Diagnoser {
	t.Helper()
	looks, ok := d.(db.Diagnoser)
	require.True(t, ok, "every engine is a db.Diagnoser")
	return looks
}

// graded wants findings that are complete, none worse than the grade.
func graded(t *testing.T, found []db.Finding, worst ...db.Grade) {
	t.Helper()
	require.NotEmpty(t, found)
	for _, f := range found {
		require.NotEmpty(t, f.Part)
		require.NotEmpty(t, f.Text)
		require.Contains(t, append(worst, db.GradeOK), f.Grade, "%+v", f)
	}
}

func testStages(t *testing.T, h Harness) {
	b := setup(t, h)
	stages := diagnoser(t, b.db).Stages(t.Context())
	graded(t, stages, db.GradeNote)
	last := stages[len(stages)-1]
	require.Equal(t, db.PartQuery, last.Part)
	require.Positive(t, last.Latency)
}

func testStagesUnreachable(t *testing.T, h Harness) {
	d, err := h.Open(h.Unreachable(t, h.Options(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	stages := diagnoser(t, d).Stages(t.Context())
	last := stages[len(stages)-1]
	require.Equal(t, db.GradeFault, last.Grade)
	require.NotEmpty(t, last.Remedy)
	_, err = diagnoser(t, d).Diagnose(t.Context(), db.Diagnosis{})
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
	if h.Secret != "" {
		require.NotContains(t, err.Error()+last.Text+last.Remedy, h.Secret)
	}
}

func testStagesGivesUp(t *testing.T, h Harness) {
	b := setup(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stages := diagnoser(t, b.db).Stages(ctx)
	require.Equal(t, db.GradeFault, stages[len(stages)-1].Grade)
}

func testDiagnoseFinds(t *testing.T, h Harness) {
	h.Needs(t, LacksRequests)
	b := setup(t, h)
	_, inserted, err := b.db.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	require.True(t, inserted)
	before := b.db.Stats()
	found, err := diagnoser(t, b.db).Diagnose(t.Context(), db.Diagnosis{PoolMax: 5, Integrity: true})
	require.NoError(t, err)
	require.Equal(t, before.Acquires, b.db.Stats().Acquires, "no connection of the pool was used")
	graded(t, found, db.GradeNote, db.GradeWarning)
	for _, part := range []string{db.PartServer, db.PartSettings, db.PartLocks, db.PartLedger} {
		require.True(t, slices.ContainsFunc(found, func(f db.Finding) bool { return f.Part == part }), part)
	}
	ledger := found[slices.IndexFunc(found, func(f db.Finding) bool { return f.Part == db.PartLedger })]
	require.Contains(t, ledger.Text, "1 rows of this database", "%+v", ledger)
}

// testRehearse goes through the three ledger modes: nothing is created, and what a probe says is said.
func testRehearse(t *testing.T, h Harness) {
	opts := h.Options(t)
	b := &bench{t: t, h: h, opts: opts}
	with := func(mode db.LedgerMode) db.Database {
		o := opts
		o.Ledger = mode
		return b.open(o)
	}
	for range 2 { // the first one would have left something
		creates, err := diagnoser(t, with(db.LedgerManage)).DryRun(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, creates)
	}
	_, err := diagnoser(t, with(db.LedgerOff)).DryRun(t.Context())
	require.NoError(t, err)
	_, err = diagnoser(t, with(db.LedgerVerify)).DryRun(t.Context())
	requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, err.Error(), "runner ledger ddl")

	b.db = with(db.LedgerManage)
	require.NoError(t, b.db.Probe(t.Context()))
	for _, mode := range []db.LedgerMode{db.LedgerManage, db.LedgerVerify} {
		creates, err := diagnoser(t, with(mode)).DryRun(t.Context())
		require.NoError(t, err)
		require.Empty(t, creates)
	}
}
