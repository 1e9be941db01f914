// Package jobs is the contract: the envelope of a job and of its result, the table of kinds, decoding and
// validation, and the running of one job against a db.Database: policy, deadline, retries, the ledger's
// rules, and what a delivery of a message means (first run, replay, tombstone, giving up).
//
// It never talks to the bus and never names an engine; what it needs of the stored results it asks through
// the small interface ResultReader. It returns errors and outcomes instead of logging.
package jobs
