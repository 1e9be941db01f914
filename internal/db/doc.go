// Package db is the engine-neutral half of the database side: what a job asks of a database, the errors that it gets back,
// the ledger's rows and the findings of a diagnosis.
//
// It owns no connection and knows no driver: each engine is a package of its own below this one that implements Database,
// with package engine for what they share. SQL text and parameters are package dialect's. It never imports an engine, the
// bus or the jobs.
package db
