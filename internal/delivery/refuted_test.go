package delivery_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/delivery"
)

// poisoned is a real database in which every execution of a job, once started, ends as if the server were gone.
type poisoned struct {
	db.Database
	before bool // it does before it has started
	runs   atomic.Int32
}

func (p *poisoned) end(call db.Call) error {
	if !p.before {
		if err := call.Begin(); err != nil {
			return err
		}
	}
	p.runs.Add(1)
	return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "the ledger is missing")
}

func (p *poisoned) Read(_ context.Context, call db.Call, _ *dialect.Compiled, _ db.RowOptions) (db.ResultSet, error) {
	return db.ResultSet{}, p.end(call)
}

func (p *poisoned) Transact(_ context.Context, call db.Call, _ *db.Transaction, _ db.RowOptions, _ db.BeforeCommit) ([]db.ResultSet, error) {
	return nil, p.end(call)
}

func (p *poisoned) Execute(_ context.Context, call db.Call, _ *dialect.Compiled, _ db.RowOptions, _ *db.Once) (db.ResultSet, error) {
	return db.ResultSet{}, p.end(call)
}

// everyEffect is a job of each kind that runs statements, with each effect that it can have.
func everyEffect() map[string][2]string {
	return map[string][2]string{
		"query":                        {"query", `{"id":"a1","sql":"SELECT 1 AS n"}`},
		"transaction, exactly_once":    {"transaction", transaction("a1", effect("a"))},
		"transaction without an id":    {"transaction", transaction("", effect("a"))},
		"transaction, at_least_once":   {"transaction", job("a1", `"effect":"at_least_once","statements":[{"sql":"SELECT 1 AS n"}]`)},
		"statement, at_most_once":      {"statement", `{"id":"a1","sql":"VACUUM"}`},
		"statement, at_least_once":     {"statement", `{"id":"a1","effect":"at_least_once","sql":"VACUUM"}`},
		"query, answered by its reply": {"query", `{"id":"a1","sql":"SELECT 1","answer":"reply","reply_to":"_INBOX.x"}`},
	}
}

// TestRefutedSuspicionIsTheJobsFailure: an execution had started and ended as if the database were down, twice, and each
// time the database answered others.
func TestRefutedSuspicionIsTheJobsFailure(t *testing.T) {
	t.Parallel()
	for name, j := range everyEffect() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			p := &poisoned{Database: s.database}
			s.use(p)
			d := deliver(j[0], j[1], 1, 1)
			for refuted := range 2 {
				out := s.run(d)
				require.Equal(t, delivery.AwaitDatabase, out.Action)
				require.True(t, out.MayBeCause)
				d.Refuted = refuted + 1
				d.MaybeRedelivered = true
			}
			out := s.run(d)
			require.Equal(t, contract.Failed, out.Status)
			require.Equal(t, "database_error", out.Code)
			require.EqualValues(t, 2, p.runs.Load(), "it is not executed a third time")
			s.settle(d, out)
			if j[0] == "transaction" && name != "transaction, at_least_once" || name == "statement, at_most_once" {
				row, err := s.database.Lookup(t.Context(), out.JobID)
				require.NoError(t, err)
				require.Equal(t, string(contract.Failed), row.Status, "the failure is on record")
			}
			again := deliver(j[0], j[1], 1, 2) // a later delivery has the same outcome
			if out.Store != nil {
				s.use(s.faults)
				require.Equal(t, contract.Failed, s.run(again).Status)
			}
		})
	}
}

// TestSuspicionNeedsABegunExecution: while a connection cannot be had, nothing of the job can be the cause.
func TestSuspicionNeedsABegunExecution(t *testing.T) {
	t.Parallel()
	for name, j := range everyEffect() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.use(&poisoned{Database: s.database, before: true})
			d := deliver(j[0], j[1], 1, 1)
			for range 5 {
				out := s.run(d)
				require.Equal(t, delivery.AwaitDatabase, out.Action)
				require.False(t, out.MayBeCause)
				d.Refuted = 5
			}
		})
	}
}

// TestRefutedSuspicionIsForgottenWhenTheJobSucceeds: once may be chance.
func TestRefutedSuspicionIsForgottenWhenTheJobSucceeds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	p := &poisoned{Database: s.database}
	s.use(p)
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	require.True(t, s.run(d).MayBeCause)
	d.Refuted, d.MaybeRedelivered = 1, true
	s.use(s.faults) // by chance: the database was back a moment later
	s.settle(d, s.run(d))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
	require.Equal(t, 1, s.count("a"))
}

// use makes an executor for another database.
func (s *stage) use(database db.Database) {
	s.t.Helper()
	var err error
	s.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r1", Database: database, Policy: &s.policy, Results: s, MaxBody: 1 << 20, MaxResult: 1 << 20,
	})
	require.NoError(s.t, err)
}
