// Package db is the engine-neutral half of the database side: what a job asks of a database, the
// errors it gets back, parameters and the SQL lexer, the encoding of rows, and the ledger's words.
//
// It owns no connection and knows no driver: each engine is a package of its own below this one
// (postgres, sqlite) that implements Database. It never imports an engine, the bus or the jobs.
package db
