// Package sqlite is the engine for SQLite files, the embedded default: modernc.org/sqlite, without cgo.
//
// # Connections
//
// SQLite has one writer at a time. So a Database has one connection that writes and up to Pool.Max-1 that are
// opened read-only: read-only there is not a promise of a transaction, the connection cannot write. The file
// is in WAL mode, so readers and the writer do not wait for each other. Other processes may use the file at the
// same time; who waits for their lock does so for Limits.LockTimeout at most.
//
// A commit that was answered survives a loss of power (synchronous=FULL, the write-ahead log is synced in
// every COMMIT), as far as the disk keeps its word. Foreign keys are enforced. A name in double quotes that is
// no column is an error, not a text.
//
// A job's statements cannot attach databases, set PRAGMAs, control transactions, or change the ledger or the history
// of migrations: SQLite asks an authorizer of ours about each action while it compiles a statement. Nor can they
// define what refers to these tables (a foreign key, a trigger). Temporary objects are allowed; the connection that
// has them is closed after the job.
//
// All transactions are serializable, whatever isolation level a job asks for.
//
// One value has at most 64 MiB. The time limit of a call is kept by interrupting its statement; a single
// function of SQL that works for long on one value (LIKE on megabytes) notices only when it is done.
//
// # COMMIT
//
// When COMMIT fails and the transaction is still open (a deferred foreign key, a lock), it is rolled back, and
// the error is definite. When SQLite itself gave the transaction up in the middle of COMMIT (a disk error, a
// full disk), its last page may be in the log already, and a crash before the next commit would bring it to
// life: that is db.ClassUnknown, which a repetition under the same ledger key resolves.
//
// # Statements outside of transactions
//
// Execute runs a statement in the transaction that SQLite makes for it, on the connection that writes; VACUUM, which must be
// in none, too. A file has no locks that a job could hold: in this process that connection is the lock, and of another process a
// row that says started does not show whether it is still at work.
//
// # Values
//
// A column of SQLite may hold values of every storage class, so each value shows its own class, and a reader
// needs no type of the column to have exactly the stored value back:
//
//	NULL      null
//	INTEGER   a JSON number without fraction and exponent, from -(2^53-1) to 2^53-1
//	          beyond: {"type": "integer", "value": "9007199254740993"}
//	REAL      a JSON number with a fraction or an exponent, the shortest that means the same 64-bit value: 1.0
//	          infinite: {"type": "real", "value": "Infinity"} or "-Infinity" (SQLite stores NaN as NULL)
//	TEXT      a JSON string
//	          not valid UTF-8: {"type": "text_base64", "value": "…"}
//	BLOB      {"type": "blob", "value": "…"}, base64
//
// An object is what a parameter of that type looks like, so every value of a result can be sent back as it is.
// Nothing is converted by a column's declared type: what was stored in a column declared DATETIME or BOOLEAN
// comes back as it was stored. The type of a result's column is the declared one, as it was written, and empty
// for an expression.
//
// # Parameters
//
// Untyped: a JSON number without fraction and exponent is an INTEGER (one beyond 64 bits is refused, never
// rounded), any other number a REAL, true and false are 1 and 0, a string is TEXT. Typed: integer, real, text,
// blob and text_base64 (base64), json (a JSON value, stored as its text).
//
// # Settings
//
//	create       true (default): the file is created when it is missing; false: a missing file is an error
//	synchronous  full (default), extra (also syncs the folder of a rollback journal), or normal: a commit may
//	             be lost with the power, also one that was answered, so exactly-once does not hold
package sqlite
