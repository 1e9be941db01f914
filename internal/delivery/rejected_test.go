package delivery_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
)

// other returns the executor of another runner of the same database, with another configuration.
func (s *stage) other(change func(*jobs.Policy)) *delivery.Executor {
	s.t.Helper()
	policy := s.policy
	change(&policy)
	executor, err := delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r2", Database: s.faults, Policy: &policy, Results: s, MaxBody: 1 << 10, MaxResult: 1 << 20,
	})
	require.NoError(s.t, err)
	return executor
}

// rejection is a message that one runner rejects and another may accept.
type rejection struct {
	strict func(*jobs.Policy) // the configuration that rejects it; nil: a newer version accepts it
	kind   string
	body   string
	code   string
}

func rejections() map[string]rejection {
	insert := `"statements":[{"sql":"INSERT INTO effects (name) VALUES ('a')"}]`
	plain := `{"id":"a1",` + insert + `}`
	statement := `{"id":"a1","sql":"INSERT INTO effects (name) VALUES ('a')"}`
	with := func(key string) string { return `{"id":"a1",` + key + `,` + insert + `}` }
	return map[string]rejection{
		"kind":               {func(p *jobs.Policy) { p.Kinds = []string{"query"} }, "transaction", plain, "kind_not_allowed"},
		"kind, at_most_once": {func(p *jobs.Policy) { p.Kinds = []string{"query"} }, "statement", statement, "kind_not_allowed"},
		"pooler":             {func(p *jobs.Policy) { p.Pooled = true }, "statement", statement, "kind_not_allowed"},
		"effect":             {func(p *jobs.Policy) { p.Effects = []contract.Effect{contract.ReadOnly} }, "transaction", plain, "effect_not_allowed"},
		"effect, at_most_once": {
			func(p *jobs.Policy) { p.Effects = []contract.Effect{contract.AtLeastOnce} }, "statement", statement, "effect_not_allowed",
		},
		"timeout":  {func(p *jobs.Policy) { p.MaxTimeout = time.Second }, "transaction", with(`"timeout":"30s"`), "invalid_value"},
		"reply_to": {func(p *jobs.Policy) { p.ReplyTo = nil }, "transaction", with(`"reply_to":"apps.shop.answers"`), "reply_to_forbidden"},
		"size": {
			func(*jobs.Policy) {}, "transaction", `{"id":"a1","labels":{"x":"` + strings.Repeat("y", 500) + `","z":"` + strings.Repeat("y", 500) + `"},` + insert + `}`,
			"body_too_large",
		},
		"unknown key":       {nil, "transaction", with(`"max_written":3`), "unknown_key"},
		"unknown version":   {nil, "transaction", with(`"version":2`), "unknown_version"},
		"unknown effect":    {nil, "transaction", with(`"effect":"exactly_twice"`), "effect_not_allowed"},
		"unknown format":    {nil, "transaction", with(`"format":"arrow"`), "invalid_value"},
		"unknown isolation": {nil, "transaction", with(`"isolation":"chaos"`), "invalid_value"},
		"unknown statement": {nil, "transaction", `{"id":"a1","statements":[{"sql":"INSERT INTO effects (name) VALUES ('a')","if_rows":1}]}`, "unknown_key"},
		"parameter types":   {nil, "transaction", `{"id":"a1","statements":[{"sql":"SELECT :x","params":{"x":{"type":"vector","value":[1]}}}]}`, "parameter_error"},
		"forbidden text":    {nil, "transaction", `{"id":"a1","statements":[{"sql":"SAVEPOINT s"}]}`, "transaction_control"},
		"unknown kind":      {nil, "call", `{"id":"a1"}`, "kind_not_allowed"},
		"other of a kind":   {nil, "statement", `{"id":"a1","sql":"SELECT 1","dry":true}`, "unknown_key"},
	}
}

// accepts is what a runner executes that accepts the message: this version under the wider configuration, or something that a
// newer version makes of it.
func (c *rejection) accepts(s *stage) (*delivery.Executor, *delivery.Delivery) {
	d := deliver(c.kind, c.body, 1, 1)
	if c.strict == nil {
		d = deliver("transaction", `{"id":"a1","statements":[{"sql":"INSERT INTO effects (name) VALUES ('a')"}]}`, 1, 1)
	}
	s.policy.ReplyTo = []string{"apps."}
	return s.executor, d
}

func (c *rejection) rejects(s *stage) (*delivery.Executor, *delivery.Delivery) {
	strict := c.strict
	if strict == nil {
		strict = func(*jobs.Policy) {}
	}
	return s.other(strict), deliver(c.kind, c.body, 1, 1)
}

// A rejection that another runner might not give is on record before it is reported, on the first delivery too: a runner that comes
// second finds the first one's end.
func TestRejectionsAreRecordedFirst(t *testing.T) {
	t.Parallel()
	for name, c := range rejections() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			if c.kind == "statement" {
				s, _ = setupStatements(t)
			}
			accepting, accepted := c.accepts(s)
			rejecting, rejected := c.rejects(s)
			out := rejecting.Run(t.Context(), rejected, nil)
			require.Equal(t, delivery.Settle, out.Action, "%v", out.Reason)
			require.Equal(t, contract.Rejected, out.Status)
			require.Equal(t, c.code, out.Code)
			row, err := s.database.Lookup(t.Context(), "a1")
			require.NoError(t, err)
			require.NotNil(t, row, "nothing is stored yet, and the rejection is on record")
			require.Equal(t, "rejected", row.Status)

			late := accepting.Run(t.Context(), accepted, nil) // it was frozen before its COMMIT
			s.settle(accepted, late)
			s.settle(rejected, out)
			require.Zero(t, s.count("a"), "nothing took effect")
			require.Equal(t, contract.Rejected, late.Status)
			require.Equal(t, "rejected", read(t, s.results["a1"]).Status)
		})
	}
}

func TestRejectionsAfterAnothersCommit(t *testing.T) {
	t.Parallel()
	for name, c := range rejections() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			if c.kind == "statement" {
				s, _ = setupStatements(t)
			}
			accepting, accepted := c.accepts(s)
			rejecting, rejected := c.rejects(s)
			out := accepting.Run(t.Context(), accepted, nil)
			require.Equal(t, contract.Succeeded, out.Status, "%s", bodyOf(out))
			late := rejecting.Run(t.Context(), rejected, nil) // its result is not stored yet
			require.Equal(t, contract.Succeeded, late.Status, "the other's end counts: %s", bodyOf(late))
			s.settle(rejected, late)
			s.settle(accepted, out)
			require.Equal(t, 1, s.count("a"))
			require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		})
	}
}

// What no runner can accept, what only reads, and what has no ledger is rejected immediately, without a round trip to the database.
func TestRejectionsWithoutARecord(t *testing.T) {
	t.Parallel()
	type immediate struct {
		change func(*jobs.Policy)
		kind   string
		body   string
	}
	for name, c := range map[string]immediate{
		"no JSON":        {nil, "transaction", `{"id":"a1",`},
		"no object":      {nil, "transaction", `["a1"]`},
		"a key twice":    {nil, "transaction", `{"id":"a1","id":"a1","statements":[]}`},
		"a nested key":   {nil, "transaction", `{"id":"a1","statements":[{"sql":"SELECT 1","sql":"SELECT 2"}]}`},
		"read_only":      {nil, "query", `{"id":"a1","sequel":1}`},
		"at_least_once":  {nil, "transaction", `{"id":"a1","effect":"at_least_once","sequel":1}`},
		"migration":      {nil, "migration", `{"id":"a1","sequel":1}`},
		"no ledger":      {func(p *jobs.Policy) { p.Ledger = false }, "transaction", `{"id":"a1","sequel":1}`},
		"kind of a read": {func(p *jobs.Policy) { p.Kinds = []string{"transaction"} }, "query", `{"id":"a1","sql":"SELECT 1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			change := c.change
			if change == nil {
				change = func(*jobs.Policy) {}
			}
			d := deliver(c.kind, c.body, 1, 1)
			out := s.other(change).Run(t.Context(), d, nil)
			require.Equal(t, delivery.Settle, out.Action)
			require.Equal(t, contract.Rejected, out.Status)
			for _, id := range []string{"a1", contract.DerivedID(d.Sequence, d.Timestamp)} {
				row, err := s.database.Lookup(t.Context(), id)
				require.NoError(t, err)
				require.Nil(t, row)
			}
		})
	}
}

// The first delivery of what no runner can accept leaves no row, so that the next one must not either: its row would not be the stored result.
func TestRejectionsInTwoDeliveriesAtATime(t *testing.T) {
	t.Parallel()
	s := setup(t)
	first, second := deliver("transaction", `{"id":"a1",`, 1, 1), deliver("transaction", `{"id":"a1",`, 1, 2)
	out, again := s.executor.Run(t.Context(), first, nil), s.executor.Run(t.Context(), second, nil) // neither result is stored yet
	require.Equal(t, contract.Rejected, out.Status)
	require.Equal(t, contract.Rejected, again.Status)
	stored := string(bodyOf(out))
	s.settle(first, out)
	s.settle(second, again)
	require.Equal(t, stored, string(s.results[out.JobID]))
	row, err := s.database.Lookup(t.Context(), out.JobID)
	require.NoError(t, err)
	require.Nil(t, row)
}

// noDialect makes decoding panic, as a defect of one version would.
type noDialect struct{ db.Database }

func (noDialect) Dialect() *dialect.Dialect { return nil }

// A defect in decoding is one version's, too: its end is on record under the job's own id, which another version would use.
func TestADefectInDecodingIsRecorded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	broken, err := delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r2", Database: noDialect{s.database}, Policy: &s.policy, Results: s, MaxBody: 1 << 20, MaxResult: 1 << 20,
	})
	require.NoError(t, err)
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	out := broken.Run(t.Context(), d, nil)
	require.Equal(t, contract.Failed, out.Status)
	require.Equal(t, string(contract.CodeInternal), out.Code)
	require.Equal(t, "a1", out.JobID)
	require.NotNil(t, out.Reply)
	late := s.run(deliver("transaction", transaction("a1", effect("a")), 1, 1))
	require.Equal(t, contract.Failed, late.Status)
	require.Zero(t, s.count("a"))
}
