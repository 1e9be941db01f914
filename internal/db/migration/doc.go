// Package migration brings databases from one version of their schema to another: it reads a folder of migration files,
// compares it with what a database's history says, and applies or reverts files one at a time under a lock of the
// database.
//
// The version is kept where golang-migrate keeps it, through golang-migrate's own driver of the engine, so that both
// can look after one database. What that table does not record, a history of our own does: which file with which contents
// was applied when, by whom, how long it took, and how far one came that did not end.
//
// The history is what makes a killed runner harmless. A file is applied in one transaction together with the mark that
// it is done, so that the next runner knows for certain which of the two there is, nothing or all of it. Only a file
// that cannot run in a transaction leaves a doubt, about one statement at most, and the history names it.
//
// What an engine adds is behind the interface Engine; it is spoken to through database/sql, as nothing here is in the
// way of jobs.
package migration
