// Package model runs the worker and the rules of jobs over a model of their world: a queue that delivers again, a results
// stream whose first writer wins, a ledger with unanswered commits, and runners that die between any two calls.
// Every call that a runner awaits waits until a step of the history decides how it continues, so that each order of events can
// come about. After each step the promises of the contract are compared with what is there.
package model
