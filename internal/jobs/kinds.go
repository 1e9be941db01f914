package jobs

import (
	"slices"

	"dbrunner/contract"
)

// kind is what decoding knows about a kind of job. A new kind is one file with its work, one line in table, and one
// golden message in testdata.
type kind struct {
	name    string
	effects []contract.Effect // that it can have; the first one is its default
	keys    []string          // its own keys of the body
	rows    bool              // its rows may go outside of its result
	rereads bool              // each execution reads what became of the ones before it, so that these leave no doubt
	session bool              // it needs a session of its own: a pooler in transaction mode gives none
	// decode reads the kind's own keys: at[i] is the value of keys[i], 0 if absent. It notes every fault; the work
	// it returns counts only if there was none.
	decode func(r *reader, at []int) work
	known  []string // the common keys and its own; set by NewDecoder
}

// table is the table of kinds.
func table() []kind {
	return []kind{
		{
			name: "query", effects: []contract.Effect{contract.ReadOnly}, rows: true,
			keys: []string{"sql", "params"}, decode: decodeQuery,
		},
		{
			name: "transaction", effects: []contract.Effect{contract.ExactlyOnce, contract.AtLeastOnce}, rows: true,
			keys: []string{"statements", "isolation"}, decode: decodeTransaction,
		},
		{
			name: "statement", effects: []contract.Effect{contract.AtMostOnce, contract.AtLeastOnce}, session: true,
			keys: []string{"sql", "params"}, decode: decodeAutocommit,
		},
		{
			name: "migration", effects: []contract.Effect{contract.AtLeastOnce}, rereads: true,
			keys: []string{"action", "target", "out_of_order"}, decode: decodeMigration,
		},
		{
			name: "health", effects: []contract.Effect{contract.ReadOnly},
			keys: []string{"checks"}, decode: decodeHealth,
		},
	}
}

// Kinds returns the names of all kinds.
func Kinds() []string {
	var names []string
	for _, k := range table() {
		names = append(names, k.name)
	}
	return names
}

// hasEffect reports whether the kind can have this effect.
func (k *kind) hasEffect(e contract.Effect) bool {
	return slices.Contains(k.effects, e)
}
