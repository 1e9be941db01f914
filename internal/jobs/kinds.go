package jobs

import (
	"slices"
	"time"

	"dbrunner/contract"
)

// kind is a row of the table of kinds: all that the runner knows of a kind of job besides its work. A new kind is one file
// with its work, one row in table and golden messages in testdata; make contract writes the schema of its body.
type kind struct {
	name    string
	lane    string            // the lane whose slots its jobs may use up, a name in laneTable
	effects []contract.Effect // that it can have; the first one is its default
	keys    []string          // its own keys of the body

	rows     bool // its rows may go outside of its result
	rereads  bool // each execution reads what became of the ones before it, so that these leave no doubt
	session  bool // it needs a session of its own: a pooler in transaction mode gives none
	named    bool // its jobs name, as the last word of their subject, the statement of the catalog that they run
	fixed    bool // the body has no effect: it is the definition's, if the kind can have more than one
	optional bool // it runs only on databases whose configuration names it; if its jobs name a statement, names calls
	queued   bool // its jobs may be in queues
	ordered  bool // its jobs may be in ordered queues
	outlives bool // its work, once started, goes on when its lease is lost, because it does not roll back whole

	// timeout and maxTimeout are default and ceiling of its jobs' time limit where the configuration has none for it; 0: the
	// database's.
	timeout, maxTimeout time.Duration

	// decode reads the kind's own keys: at[i] is the value of keys[i], 0 if absent. It notes every fault; the work
	// it returns counts only if there was none.
	decode func(r *reader, at []int) work
	known  []string // the common keys and its own; set by NewDecoder
}

// table is the table of kinds.
func table() []kind {
	return []kind{
		{
			name: "query", lane: "work", effects: []contract.Effect{contract.ReadOnly}, rows: true, queued: true,
			keys: []string{"sql", "params"}, decode: decodeQuery,
		},
		{
			name: "transaction", lane: "work", effects: []contract.Effect{contract.ExactlyOnce, contract.AtLeastOnce}, rows: true, queued: true, ordered: true,
			keys: transactionKeys, decode: decodeTransaction,
		},
		{
			name: "statement", lane: "work", effects: []contract.Effect{contract.AtMostOnce, contract.AtLeastOnce},
			session: true, outlives: true, queued: true,
			keys: []string{"sql", "params"}, decode: decodeAutocommit,
		},
		{
			name: "migration", lane: "migration", effects: []contract.Effect{contract.AtLeastOnce},
			rereads: true, outlives: true, timeout: time.Hour, maxTimeout: 24 * time.Hour,
			keys: []string{"action", "target", "out_of_order"}, decode: decodeMigration,
		},
		{
			name: "health", lane: "health", effects: []contract.Effect{contract.ReadOnly},
			keys: []string{"checks"}, decode: decodeHealth,
		},
		{
			name: "call", lane: "call", effects: []contract.Effect{contract.ExactlyOnce, contract.ReadOnly}, rows: true,
			named: true, fixed: true, optional: true, queued: true, ordered: true,
			keys: []string{"params"}, decode: decodeCall,
		},
		{
			name: "dry_run", lane: "call", effects: []contract.Effect{contract.RolledBack}, rows: true, fixed: true, optional: true, queued: true,
			keys: transactionKeys, decode: decodeDryRun,
		},
		{
			name: "dry_run", lane: "call", effects: []contract.Effect{contract.RolledBack}, rows: true, named: true, fixed: true, optional: true, queued: true,
			keys: []string{"params"}, decode: decodeDryRunOfCall,
		},
		{
			name: "approve", lane: "call", effects: []contract.Effect{contract.ExactlyOnce}, rows: true, fixed: true, optional: true,
			keys: approvalKeys, decode: decodeApproval,
		},
		{
			name: "approve", lane: "call", effects: []contract.Effect{contract.ExactlyOnce}, rows: true, named: true, fixed: true, optional: true,
			keys: approvalKeys, decode: decodeApproval,
		},
	}
}

// enabledBy is the word in a configuration that enables an optional kind.
func (k *kind) enabledBy() string {
	if k.named {
		return "call"
	}
	return k.name
}

// form is what follows the database in the subjects of its jobs, for people.
func (k *kind) form() string {
	if k.named && k.name != "call" {
		return k.name + ".<name>"
	}
	return k.name
}

// laneTable is the table of lanes. Migrations and health checks have lanes of their own, so that they never wait behind work.
func laneTable() []Lane {
	return []Lane{
		{Name: "work", Pausable: true},
		{Name: "migration", slots: 1, pending: 1},
		{Name: "health", slots: 2, RunsWhenDown: true},
		{Name: "call", Pausable: true, Filters: []string{"call.*", "dry_run", "dry_run.*", "approve", "approve.*"}},
	}
}

// Kinds returns the names of all kinds.
func Kinds() []string {
	var names []string
	for _, k := range table() {
		names = append(names, k.name)
	}
	return slices.Compact(names)
}

// OptionalKinds returns the names of the kinds that run only where a configuration names them.
func OptionalKinds() []string {
	var names []string
	for _, k := range table() {
		if k.optional {
			names = append(names, k.name)
		}
	}
	return slices.Compact(names)
}

// NeedsSession reports whether jobs of a kind need a session of their own.
func NeedsSession(name string) bool {
	return slices.ContainsFunc(table(), func(k kind) bool { return k.name == name && k.session })
}

// KindPolicies returns the time limits of each kind where the configuration has none for it.
func KindPolicies() map[string]KindPolicy {
	out := map[string]KindPolicy{}
	for _, k := range table() {
		out[k.name] = KindPolicy{Timeout: k.timeout, MaxTimeout: k.maxTimeout}
	}
	return out
}
