package dbtest

import (
	"testing"

	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Harness is what an engine brings to the suite.
type Harness struct {
	// Options returns complete options of an empty database that only this test uses, with a ledger that is
	// managed. What it starts ends with the test.
	Options func(t testing.TB) db.Options

	// Open is the engine's constructor.
	Open func(db.Options) (db.Database, error)

	// Unreachable turns options into ones that Open takes and that Probe must refuse: no server is there. Secret
	// is a part of their connection string (the password) that no error may show; empty if there is none.
	Unreachable func(t testing.TB, opts db.Options) db.Options
	Secret      string

	// Cuttable turns options into ones whose links to the server go through a place that the test has: cut ends all that
	// are open. nil: the engine has no links, it is its own server.
	Cuttable func(t testing.TB, opts db.Options) (through db.Options, cut func())

	// SmallestPool is the least Pool.Max with which exactly one transaction runs at a time.
	SmallestPool int

	Has Features
	SQL SQL

	Values     []ValueCase
	RoundTrips []RoundTrip
	Params     []ParamCase
	Leaks      []Leak

	// Poisons are ways in which a job may harm what its own execution needs.
	Poisons []Poison

	// Counted are transactions and how many rows they write; NotCountable are refused where rows are limited.
	Counted, NotCountable []WriteCase

	// Writes are statements that would add a row to table item (id, name), to be refused by Read although
	// their first word was not checked, e.g. "WITH x AS (INSERT …) SELECT …".
	Writes []string

	// Refused are statements that dialect.Compile or, failing that, the engine refuses in every job.
	Refused []string

	// Outside are statements that cannot run in a transaction, may be run any number of times, and are a job's of kind
	// statement; table item is there.
	Outside []string

	// Bypass are statements that the engine itself refuses, even when dialect.Compile was not asked.
	Bypass []string
}

// Features are what an engine can do.
type Features struct {
	DeferredConstraints bool // REFERENCES … DEFERRABLE INITIALLY DEFERRED
	Returning           bool // INSERT … RETURNING
	Snapshot            bool // the isolation level SNAPSHOT
	Pooled              bool // reached through a pooler in transaction mode
	SharedCommits       bool // transactions of several jobs in one
	JobLocks            bool // locks of a session, by which others see that it executes a job

	// Lacks names what the server at hand is known not to do, although the engine's servers do it. Cases that need it
	// are skipped, and say so.
	Lacks map[string]bool
}

// What a server may lack.
const (
	// LacksCancel: it goes on with a statement that was cancelled.
	LacksCancel = "cancel"
	// LacksNumbers: it has one number for many errors.
	LacksNumbers = "numbers"
	// LacksReset: a session's own variables outlive its reset.
	LacksReset = "reset"
	// LacksAlterDatabase: it has no ALTER DATABASE.
	LacksAlterDatabase = "alter_database"
	// LacksMerge: it has no MERGE.
	LacksMerge = "merge"
	// LacksDefaultNames: it forgets the names of default constraints.
	LacksDefaultNames = "default_names"
	// LacksTransactionID: it does not distinguish one transaction of a session from the next.
	LacksTransactionID = "transaction_id"
	// LacksRequests: it has no sys.dm_exec_requests, and not what else a diagnosis looks at.
	LacksRequests = "dm_exec_requests"
	// LacksAppLocks: it crashes now and then when sessions compete for locks of an application.
	LacksAppLocks = "applocks"
	// LacksReadPast: it waits for rows that others hold, in spite of READPAST.
	LacksReadPast = "readpast"
)

// Needs skips a case that the server at hand is known not to pass.
func (h *Harness) Needs(t *testing.T, what string) {
	t.Helper()
	if h.Has.Lacks[what] {
		t.Skipf("SKIPPED, not tested: the server at hand lacks %q", what)
	}
}

// SQL is the engine's own wording of what the suite needs.
type SQL struct {
	// Positional is the positional parameter with this number, from 1: "?" or "$1".
	Positional func(n int) string

	// Numbers is a query of one column n with the numbers 1 to count, in order, each a JSON number.
	Numbers func(count int) string

	// Ledger is the name of the ledger's table where an administrator may change it; empty: it cannot be changed.
	Ledger string

	// Slow is a query that runs for minutes unless it is stopped.
	Slow string

	// Text is the type of the columns that hold any text; empty: VARCHAR(100).
	Text string

	// Running is a query of one row and column n: how many sessions run Slow or a giant query of Numbers at this moment.
	// Empty if the engine's statements run in this process, so that a call that came back has stopped its statement.
	Running string

	// Same is an expression that is 1 where the parameter, which has the type or is to take it on, is the value of the
	// expression: the same to the last digit, NULL only if that is.
	Same func(param, expr, as string, typed bool) string

	// DataError is a query with the parameter :value, a text, that fails on the value while it runs.
	DataError string
}

// ValueCase is a query of one row and one column v, and how the value must look: its exact JSON text.
type ValueCase struct {
	Name string
	SQL  string
	Type string // the column's type in the result
	JSON string
}

// RoundTrip is a type whose values are read and sent back.
type RoundTrip struct {
	Type  string                // as SQL writes it
	Typed bool                  // sent back with the type that the result names
	Plain bool                  // sent back without a type
	Expr  func(*rapid.T) string // an expression of the type, NULL now and then
}

// ParamCase is a query of one row and one column v with the parameter :value, and what must come back.
type ParamCase struct {
	Name  string
	SQL   string
	Value dialect.Value
	JSON  string        // the exact JSON text of v
	Code  contract.Code // instead: the code of the fault or error
}

// Leak is session state that must not reach the next job.
type Leak struct {
	Name string
	Set  []string // statements of one transaction; they may be refused
	Look string   // a query of one row and column v that would show the state

	Needs string // what the server at hand must not lack, see Features.Lacks
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	groups := []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Read", testRead},
		{"Values", testValues},
		{"Files", testFiles},
		{"Params", testParams},
		{"RoundTrip", testRoundTrip},
		{"Caps", testCaps},
		{"Overflow", testOverflow},
		{"ReadOnly", testReadOnly},
		{"Transact", testTransact},
		{"Batch", testBatch},
		{"Outside", testOutside},
		{"Guards", testGuards},
		{"Affected", testAffected},
		{"DryRun", testDryRun},
		{"Seal", testSeal},
		{"Fence", testFence},
		{"Races", testRaces},
		{"Shared", testShared},
		{"Ledger", testLedger},
		{"Limits", testLimits},
		{"Locks", testLocks},
		{"Pool", testPool},
		{"Sessions", testSessions},
		{"Poisons", testPoisons},
		{"Refused", testRefused},
		{"Errors", testErrors},
		{"Probe", testProbe},
		{"Check", testCheck},
		{"Diagnose", testDiagnose},
		{"Prepare", testPrepare},
		{"Close", testClose},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.run(t, h)
		})
	}
}

// cases runs the tests of a group in parallel, each by its name.
func cases(t *testing.T, h Harness, tests map[string]func(*testing.T, Harness)) {
	t.Helper()
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, h)
		})
	}
}
