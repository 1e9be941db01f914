package contract

// Code is a stable word for what went wrong, a result's error.code. An empty Code is no error.
type Code string

// The codes of errors in a job's body. A rejection has the code that all of its errors share, or CodeInvalidBody.
const (
	CodeInvalidJSON  Code = "invalid_json"   // not one JSON object in UTF-8
	CodeTooLarge     Code = "body_too_large" // more bytes or values than a body may have
	CodeTooDeep      Code = "body_too_deep"  // arrays and objects nested too deeply
	CodeInvalidBody  Code = "invalid_body"   // several faults of different kinds
	CodeUnknownKey   Code = "unknown_key"    // a key that the contract does not have, or not at this place
	CodeDuplicateKey Code = "duplicate_key"  // a key given twice
	CodeMissingKey   Code = "missing_key"    // a key that the kind requires
	CodeInvalidValue Code = "invalid_value"  // a wrong type, or a value outside its range
	CodeInvalidID    Code = "invalid_id"     // not 1 to 100 of [A-Za-z0-9_-], or in the form of a derived id
	CodeVersion      Code = "unknown_version"

	CodeReplyTo           Code = "reply_to_forbidden" // a reply subject outside the allowed prefixes
	CodeKindNotAllowed    Code = "kind_not_allowed"   // the database's configuration leaves this kind out
	CodeEffectNotAllowed  Code = "effect_not_allowed" // the kind cannot, or the database may not, have this effect
	CodeParameterNotTyped Code = "untyped_parameter"  // an array or object without a type
	CodeUnknownCall       Code = "unknown_call"       // the database's catalog has no statement of this name
	CodeApprovalNotFound  Code = "approval_not_found" // there is no dry run that the approval may approve
)

// The codes of outcomes that the runner decides.
const (
	CodeTooManyDeliveries Code = "too_many_deliveries" // the job was delivered more often than the limit
	CodeIDReused          Code = "job_id_reused"       // another request had this id first
	CodeResultTaken       Code = "result_id_taken"     // the effect happened, its result's place was taken
	CodeExpired           Code = "expired"             // expires_at or expires_in passed before the job started
	CodeCanceled          Code = "cancelled"           // the job was cancelled
	CodeOutcomeUnknown    Code = "outcome_unknown"     // whether the effect happened cannot be known
	CodeInternal          Code = "internal_error"      // a defect of the runner's own

	CodeRowsFull          Code = "rows_store_full"        // the object store has no room for the rows
	CodeParamsNotFound    Code = "params_not_found"       // there is no such object with parameters
	CodeParamsDigest      Code = "params_digest"          // its content is not what the job names
	CodeParamsInvalid     Code = "params_invalid"         // a line of it is no row of parameters
	CodeParamsUnavailable Code = "params_unavailable"     // the object store did not answer
	CodeRowsUnavailable   Code = "rows_store_unavailable" // the object store did not take the rows
)

// The codes of databases.
const (
	CodeSyntax             Code = "syntax_error"
	CodeUndefined          Code = "undefined_object"    // no such table, column, function, type
	CodePermission         Code = "permission_denied"   // the login may not do this
	CodeReadOnly           Code = "read_only_violation" // a write where only reads are allowed
	CodeUnique             Code = "unique_violation"    //
	CodeForeignKey         Code = "foreign_key_violation"
	CodeNotNull            Code = "not_null_violation"
	CodeCheck              Code = "check_violation"
	CodeConstraint         Code = "constraint_violation"  // any other constraint
	CodeData               Code = "data_error"            // a value that does not fit: range, format, division by zero
	CodeParameter          Code = "parameter_error"       // a parameter is missing, left over or cannot be bound
	CodeMultipleStatements Code = "multiple_statements"   // one statement was expected
	CodeTransactionControl Code = "transaction_control"   // BEGIN, COMMIT, … inside a job
	CodeForbiddenStatement Code = "forbidden_statement"   // a statement that jobs may not use
	CodeTransactionAborted Code = "transaction_aborted"   // the transaction was ended, or made impossible to commit, by the job itself
	CodeDuplicateColumn    Code = "duplicate_column"      // two columns of one name, row_format objects
	CodeExpectRows         Code = "expect_rows_failed"    // an expect_rows guard does not hold
	CodeMaxAffected        Code = "max_affected_exceeded" // more rows written than max_affected allows
	CodeNotCountable       Code = "not_countable"         // under max_affected: a statement whose rows the server does not count
	CodeEffectChanged      Code = "effect_changed"        // an approval had another effect than its dry run
	CodeResultTooLarge     Code = "result_too_large"      // more rows or bytes than the job or its database allows
	CodeTimeout            Code = "timeout"               // the job's time limit
	CodeLockTimeout        Code = "lock_timeout"          // a lock was not free within the lock time limit
	CodeSerialization      Code = "serialization_failure"
	CodeDeadlock           Code = "deadlock"
	CodeConnectionLost     Code = "connection_lost"
	CodeUnavailable        Code = "database_unavailable"
	CodeResources          Code = "insufficient_resources" // disk full, out of memory, too many …
	CodeNotSupported       Code = "not_supported"
	CodeDatabase           Code = "database_error" // any other error of the server
)

// The codes of migrations.
const (
	CodeMigrationFolder  Code = "migration_folder"  // the folder cannot be read, or there is something wrong with its files
	CodeMigrationTarget  Code = "migration_target"  // there is no such version, or the action cannot go there
	CodeMigrationRefused Code = "migration_refused" // folder and database do not go together
	CodeMigrationDirty   Code = "migration_dirty"   // an interrupted migration has to be repaired first
	CodeMigrationLocked  Code = "migration_locked"  // another process is migrating this database
	CodeMigrationPassed  Code = "migration_passed"  // others have migrated since this job started
)

// Codes returns all codes that a result can have.
func Codes() []Code {
	return []Code{
		CodeInvalidJSON, CodeTooLarge, CodeTooDeep, CodeInvalidBody, CodeUnknownKey, CodeDuplicateKey,
		CodeMissingKey, CodeInvalidValue, CodeInvalidID, CodeVersion, CodeReplyTo, CodeKindNotAllowed,
		CodeEffectNotAllowed, CodeParameterNotTyped, CodeUnknownCall, CodeApprovalNotFound, CodeTooManyDeliveries, CodeIDReused, CodeResultTaken,
		CodeExpired, CodeCanceled, CodeOutcomeUnknown, CodeInternal, CodeRowsFull, CodeRowsUnavailable,
		CodeParamsNotFound, CodeParamsDigest, CodeParamsInvalid, CodeParamsUnavailable,
		CodeSyntax, CodeUndefined, CodePermission, CodeReadOnly, CodeUnique, CodeForeignKey,
		CodeNotNull, CodeCheck, CodeConstraint, CodeData, CodeParameter,
		CodeMultipleStatements, CodeTransactionControl, CodeForbiddenStatement,
		CodeTransactionAborted, CodeDuplicateColumn, CodeExpectRows, CodeMaxAffected, CodeNotCountable, CodeEffectChanged, CodeResultTooLarge,
		CodeTimeout, CodeLockTimeout, CodeSerialization, CodeDeadlock, CodeConnectionLost,
		CodeUnavailable, CodeResources, CodeNotSupported, CodeDatabase,
		CodeMigrationFolder, CodeMigrationTarget, CodeMigrationRefused, CodeMigrationDirty, CodeMigrationLocked,
		CodeMigrationPassed,
	}
}
