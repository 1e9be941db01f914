// Package verify is an independent judge of a database's jobs: it reads what runners have left on NATS and in the ledger, and
// reports what does not match. It shares no code with the runners and imports no other package of this module: names, ids and
// the form of results are written down here a second time, from docs/messages.md. It changes nothing.
package verify
