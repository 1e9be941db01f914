// Package postgres is the PostgreSQL engine: db.Database over pgx's native pool.
//
// It owns the pool, the sessions in it and the ledger table. It speaks the extended protocol itself, on
// pgx's connections, because one round trip to the server carries several segments that must not be mixed up:
//
//	reads:         {BEGIN READ ONLY, statement, ROLLBACK AND CHAIN, statement, …} {ROLLBACK, clean-up}
//	transactions:  {BEGIN, statements} then {INSERT ledger row, COMMIT} {clean-up}
//
// Quick reads that wait for a connection at the same moment share a round trip, each in a transaction of its own; a read
// that was slow, large or unknown has one for itself.
//
// Each brace ends with a synchronisation point of its own: an error skips the rest of its segment and nothing
// else, so BEGIN stands in the segment of the statements that it protects, ROLLBACK outside of it, and COMMIT behind the
// fence that it must not pass. Behind a pooler in transaction mode COMMIT and the clean-up are one segment. The
// answer of a clean-up is read when the session is used next, before anything is sent; if the clean-up failed,
// or counts other prepared statements than the engine has made, the session is closed and not used again.
//
// # Statements outside of transactions
//
// Execute sends one statement as a segment of its own, between segments of ours: {limits} {try-lock} {INSERT started row}
// {statement} {UPDATE row} {clean-up}. The lock is an advisory one of the session. What is asked about a job from elsewhere
// tries it and never waits. See decisions 30 to 32.
//
// # Values
//
// Parameters go to the server as text, in the form that the type's own input function reads: a string as it
// is, a number and a boolean as their JSON text. A typed value names any type of the server; a JSON array for
// an array type becomes an array literal; json and jsonb take an array or object as it is (a string is JSON
// text); bytea takes standard base64, or PostgreSQL's own \x and hexadecimal digits.
//
// Results are asked for as text and encoded by type: smallint, integer and finite real and double precision
// as JSON numbers, boolean as true and false, json and jsonb as they are (a string or null of JSON as a string with its JSON
// text, which is how parameters are read), bytea as standard base64, all other
// values as the text that PostgreSQL prints (DateStyle ISO, IntervalStyle iso_8601), times with a zone in UTC, which its
// input function reads back: bigint, numeric and money too, NaN and the infinities of floats, arrays, ranges,
// composites.
//
// # Errors
//
// No text of the server is shown: a message may quote a parameter's value. What is shown is the name of the
// condition, the names of constraint, table and column, and the word of the job's own SQL that the server
// points at, if it is a plain name.
//
// The package never logs, and never imports another engine, the bus or the jobs.
package postgres
