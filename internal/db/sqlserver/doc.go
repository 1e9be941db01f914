// Package sqlserver is the engine for Microsoft SQL Server 2017 and later, and Azure SQL: go-mssqldb, used at the level
// of its connections and not through database/sql (decision 20).
//
// # Transactions
//
// A transaction takes its statements' round trips and three more: {limits, BEGIN}, the statements one by one, {verification,
// ledger row}, {COMMIT}. XACT_ABORT is ON from the first to the last: an error rolls back all of it. It is started twice,
// so that a stray COMMIT in a procedure commits nothing, and it is committed only if it is the one that was started: its
// depth, its state, its id and its database are looked at in the same batch that writes the ledger row.
//
// The server counts a COMMIT or BEGIN inside a parameterised request as a mistake (error 266), so those two are plain
// batches with a text that never changes.
//
// A read is one round trip: a transaction that is rolled back in the same request. SQL Server has no READ ONLY
// transaction; what really keeps a query from writing is its login (see docs/sqlserver.md). Beside it, words that
// write are refused wherever they stand, as T-SQL reserves them.
//
// # Statements outside of transactions
//
// Execute takes six requests: {limits}, {lock of the session by sp_getapplock, without waiting}, {started row}, {statement},
// {roll back what it left open, and look whether it did}, {end of the row}, and releases the lock immediately: the reset would
// do so only before the session's next job. A statement that stopped on request may have been done in that very moment.
//
// # Sessions
//
// sp_reset_connection goes with the first request of each job, so that nothing of the job before is left: settings,
// temporary tables, locks, cursors, the database in use. All that a job needs is set in its own first request.
//
// # Ending early
//
// When the time of a call is over, the driver asks the server to stop (an attention). If the server does not confirm
// that in time, or the network says nothing, the link is cut under the driver, so that no call outlives its bounds for
// long. COMMIT is never stopped.
//
// # Values
//
//	tinyint, smallint, int          JSON numbers
//	bigint, decimal, money          strings of digits
//	float, real                     JSON numbers, the shortest that mean the same value
//	bit                             true, false
//	binary, varbinary, rowversion   base64; so are the types of the CLR
//	uniqueidentifier                a string in lower case
//	date, time, datetime, …         ISO 8601 with all digits of the type; an offset only where the type has one
//	char, nvarchar, xml, …          strings
//	sql_variant                     refused: the driver does not report its base type
//
// # Settings
//
//	label_sessions                 CONTEXT_INFO of the session names the job while it runs
//	show_raised_messages           the text of RAISERROR and THROW is shown to publishers
//	require_read_only_login        queries are refused while the login could write
//	allow_unencrypted              the connection need not be encrypted
//	allow_unverified_certificate   whatever certificate the server shows is taken
package sqlserver
