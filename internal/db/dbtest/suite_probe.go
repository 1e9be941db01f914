package dbtest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

func testProbe(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Unreachable": testUnreachable,
		"Ledger":      testProbeLedger,
		"Together":    testProbeTogether,
		"OpenChecks":  testOpenChecks,
		"Repeats": func(t *testing.T, h Harness) {
			b := setup(t, h)
			for range 3 {
				require.NoError(t, b.db.Probe(t.Context()))
			}
		},
	})
}

// testUnreachable opens a database that is not there: Open does not mind, everything else says so.
func testUnreachable(t *testing.T, h Harness) {
	opts := h.Unreachable(t, h.Options(t))
	opts.Pool.ConnectTimeout = time.Second
	d, err := h.Open(opts)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	ends := map[string]error{"probe": d.Probe(t.Context())}
	_, ends["read"] = d.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT 1 AS n"}, objects())
	_, ends["transact"] = d.Transact(t.Context(), call(),
		one(&dialect.Compiled{SQL: "SELECT 1 AS n"}, db.IsolationDefault), objects(), sealed("job"))
	_, _, ends["record"] = d.Record(t.Context(), entry("job"))
	_, ends["lookup"] = d.Lookup(t.Context(), "job")
	_, ends["sweep"] = d.Sweep(t.Context(), time.Now(), 10)
	for what, err := range ends {
		require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%s: %v", what, err)
		if h.Secret != "" {
			require.NotContains(t, err.Error(), h.Secret, what)
		}
	}
	require.Zero(t, d.Stats().InUse)
}

// testProbeLedger goes through the three ledger modes.
func testProbeLedger(t *testing.T, h Harness) {
	opts := h.Options(t)
	b := &bench{t: t, h: h, opts: opts}
	with := func(mode db.LedgerMode) db.Database {
		o := opts
		o.Ledger = mode
		return b.open(o)
	}
	require.NoError(t, with(db.LedgerOff).Probe(t.Context()), "no ledger wanted, none missed")
	err := with(db.LedgerVerify).Probe(t.Context())
	e := requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, strings.ToLower(e.Message), "ledger")
	b.db = with(db.LedgerManage)
	require.NoError(t, b.db.Probe(t.Context()))
	verify := with(db.LedgerVerify)
	require.NoError(t, verify.Probe(t.Context()))
	_, inserted, err := verify.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	require.True(t, inserted)
}

// testProbeTogether lets runners meet on an empty database: all of them create the ledger, none fails.
func testProbeTogether(t *testing.T, h Harness) {
	b := &bench{t: t, h: h, opts: h.Options(t)}
	var wg sync.WaitGroup
	for range 6 {
		d := b.open(b.opts)
		wg.Go(func() { check(t, d.Probe(t.Context())) })
	}
	wg.Wait()
}

func testOpenChecks(t *testing.T, h Harness) {
	opts := h.Options(t)
	opts.Settings = map[string]string{"no_such_setting": "1"}
	_, err := h.Open(opts)
	require.Error(t, err)
	require.Contains(t, err.Error(), "no_such_setting")
	opts = h.Options(t)
	opts.ConnectionString = ""
	_, err = h.Open(opts)
	require.Error(t, err)
}
