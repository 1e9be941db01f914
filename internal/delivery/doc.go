// Package delivery decides what a delivery of a job's message means and carries it out: it finds earlier outcomes of the
// same job, executes what may run, retries transient failures, records the outcome in the ledger, and composes the result,
// the reply and the dead letter.
//
// It knows jobs only as jobs.Job and databases only as db.Database. It never talks to NATS; what it needs of the stored
// results it asks through ResultReader. It returns errors and outcomes instead of logging.
package delivery
