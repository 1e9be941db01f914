package main

import (
	"strings"

	"dbrunner/test/faults/check"
)

// limited is a job with a limit on the rows that it writes, which two statements together hold or break; one alone holds it.
// Some are published several times.
func (p *planner) limited(name string) {
	const limit = 10
	first, second := 3+p.rng.IntN(6), 3+p.rng.IntN(6)
	r := p.request(name, "limited", p.where(), "transaction", check.ExactlyOnce, first+second, body{
		"max_affected": limit, "statements": []body{severalEffects(name, first), severalEffects(name, second)},
	})
	r.Limit = limit
	if first+second > limit {
		r.Statuses, r.Codes = []string{check.Failed}, []string{"max_affected_exceeded"}
	}
	for range 1 + p.rng.IntN(3) {
		p.messages = append(p.messages, message{at: p.when(), request: r})
	}
}

// severalEffects is a statement that leaves multiple rows of effects.
func severalEffects(name string, n int) body {
	values := strings.TrimSuffix(strings.Repeat("(:request, 0, 0, 0, :private), ", n), ", ")
	return body{"sql": insertEffect + values, "params": body{"request": name, "private": privateValue}}
}
