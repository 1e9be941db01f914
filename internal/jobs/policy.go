package jobs

import (
	"slices"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/catalog"
)

// Policy is what a configured database allows and its defaults for what a job leaves out.
type Policy struct {
	Kinds         []string              // kinds that run here; empty = all but the optional ones
	Effects       []contract.Effect     // effects that run here; empty = all
	Pooled        bool                  // a pooler in transaction mode stands before it: a job has no session of its own
	Ordered       []string              // queues whose jobs take effect one at a time, in the order of the stream
	Retention     time.Duration         // of ledger rows: an id is free again after it; 0 = not before its row is deleted
	Ledger        bool                  // a ledger is there: exactly_once and at_most_once are possible
	Timeout       time.Duration         // default of a job's timeout
	MaxTimeout    time.Duration         // ceiling of a job's timeout
	ByKind        map[string]KindPolicy // default and ceiling for one kind, where they differ
	MaxRows       int64                 // cap on rows in one result
	MaxBytes      int64                 // cap on encoded rows in one result, bytes
	MaxAffected   int64                 // cap on rows that one transaction writes; 0 = none
	SharedCommits bool                  // transactions may share a commit
	Output        OutputPolicy          // of rows outside of results
	ReplyTo       []string              // subject prefixes that a reply may go to besides the built-in ones, each ending in "."
	Catalog       *catalog.Catalog      // of the statements that calls name; nil: there are none
	DeadLetters   []string              // the reasons that leave a dead letter, see contract.DeadLetterReasons
	Retry         RetryPolicy
	MaxDeliveries uint64 // above it a job is not decoded any more
}

// OutputPolicy bounds what may go outside of results.
type OutputPolicy struct {
	Off      bool  // no rows do
	MaxRows  int64 // cap on rows of one job; 0 = none
	MaxBytes int64 // cap on rows of one job, bytes of them as JSON; 0 = none
}

// KindPolicy overrides a database's time limits for one kind; zero = as the database.
type KindPolicy struct {
	Timeout    time.Duration
	MaxTimeout time.Duration
}

// RetryPolicy bounds the repetitions of transient failures within one delivery.
type RetryPolicy struct {
	Attempts uint          // executions at most, the first one included
	Delay    time.Duration // before the second one; doubles, with jitter
	MaxDelay time.Duration
}

// allows reports whether jobs of a kind may run.
func (p *Policy) allows(k *kind) bool { return allowsKind(p.Kinds, k) }

// allowsKind reports whether a list of kinds has one: an empty list has all but the optional ones.
func allowsKind(kinds []string, k *kind) bool {
	if len(kinds) == 0 {
		return !k.optional
	}
	return slices.Contains(kinds, k.enabledBy())
}

// AllowsEffect reports whether the effect may run.
func (p *Policy) AllowsEffect(e contract.Effect) bool {
	if !p.Ledger && (e == contract.ExactlyOnce || e == contract.AtMostOnce) {
		return false
	}
	return len(p.Effects) == 0 || slices.Contains(p.Effects, e)
}

// LongestTimeout is the longest time limit of an execution that may offload rows.
func (p *Policy) LongestTimeout() time.Duration {
	var longest time.Duration
	for _, k := range table() {
		if _, ceiling := p.timeouts(k.name); k.rows && p.allows(&k) {
			longest = max(longest, ceiling)
		}
	}
	return longest
}

func (p *Policy) timeouts(kind string) (fallback, ceiling time.Duration) {
	fallback, ceiling = p.Timeout, p.MaxTimeout
	if k, ok := p.ByKind[kind]; ok {
		if k.Timeout > 0 {
			fallback = k.Timeout
		}
		if k.MaxTimeout > 0 {
			ceiling = k.MaxTimeout
		}
	}
	return fallback, ceiling
}

// TighterLimit is the lower one of two limits; zero is none.
func TighterLimit(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Offer is a kind of jobs that a database runs, and how.
type Offer struct {
	Kind       string
	Form       string            // what follows the database in the subjects of its jobs, for people
	Effects    []contract.Effect // the first one is the default
	Timeout    time.Duration
	MaxTimeout time.Duration
	Named      bool // its jobs name what they run as the last word of their subject
}

// Offers lists the kinds that a policy allows.
func (p *Policy) Offers() []Offer {
	var offers []Offer
	for _, k := range table() {
		if !p.allows(&k) {
			continue
		}
		o := Offer{Kind: k.name, Form: k.form(), Named: k.named}
		for _, e := range k.effects {
			if p.AllowsEffect(e) {
				o.Effects = append(o.Effects, e)
			}
		}
		o.Timeout, o.MaxTimeout = p.timeouts(k.name)
		offers = append(offers, o)
	}
	return offers
}
