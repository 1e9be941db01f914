package jobs

import (
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// The codes of faults that decoding finds in a body. A rejection carries the code that all of its faults share,
// or CodeInvalidBody.
const (
	CodeInvalidJSON  db.Code = "invalid_json"   // not one JSON object in UTF-8
	CodeTooLarge     db.Code = "body_too_large" // more bytes or values than a body may have
	CodeTooDeep      db.Code = "body_too_deep"  // arrays and objects nested too deeply
	CodeInvalidBody  db.Code = "invalid_body"   // several faults of different kinds
	CodeUnknownKey   db.Code = "unknown_key"    // a key that the contract does not have, or not at this place
	CodeDuplicateKey db.Code = "duplicate_key"  // a key given twice
	CodeMissingKey   db.Code = "missing_key"    // a key that the kind requires
	CodeInvalidValue db.Code = "invalid_value"  // a wrong type, or a value outside its range
	CodeInvalidID    db.Code = "invalid_id"     // not 1 to 100 of [A-Za-z0-9_-], or in the form of a derived id
	CodeVersion      db.Code = "unknown_version"

	CodeReplyTo           db.Code = "reply_to_forbidden" // a reply subject outside the allowed prefixes
	CodeKindNotAllowed    db.Code = "kind_not_allowed"   // the database's configuration leaves this kind out
	CodeEffectNotAllowed  db.Code = "effect_not_allowed" // the kind cannot, or the database may not, have this effect
	CodeParameterNotTyped db.Code = "untyped_parameter"  // an array or object without a type
)

// The codes of ends that only the running of jobs knows.
const (
	CodeTooManyDeliveries db.Code = "too_many_deliveries" // the job was delivered more often than the limit
	CodeIDReused          db.Code = "job_id_reused"       // another request had this id first
	CodeResultTaken       db.Code = "result_id_taken"     // the effect happened, its result's place was taken
	CodeExpired           db.Code = "expired"             // expires_at or expires_in passed before the job began
	CodeCanceled          db.Code = "cancelled"           // somebody asked for the job's end
	CodeOutcomeUnknown    db.Code = "outcome_unknown"     // whether the effect happened cannot be known
	CodeInternal          db.Code = "internal_error"      // a defect of the runner's own

	CodeRowsFull          db.Code = "rows_store_full"        // the object store has no room for the rows
	CodeParamsNotFound    db.Code = "params_not_found"       // there is no such object with parameters
	CodeParamsDigest      db.Code = "params_digest"          // its content is not what the job names
	CodeParamsInvalid     db.Code = "params_invalid"         // a line of it is no row of parameters
	CodeParamsUnavailable db.Code = "params_unavailable"     // the object store did not answer
	CodeRowsUnavailable   db.Code = "rows_store_unavailable" // the object store did not take the rows
)

// Codes are the codes that an answer can have, for those who count by them.
func Codes() []db.Code {
	return []db.Code{
		CodeInvalidJSON, CodeTooLarge, CodeTooDeep, CodeInvalidBody, CodeUnknownKey, CodeDuplicateKey,
		CodeMissingKey, CodeInvalidValue, CodeInvalidID, CodeVersion, CodeReplyTo, CodeKindNotAllowed,
		CodeEffectNotAllowed, CodeParameterNotTyped, CodeTooManyDeliveries, CodeIDReused, CodeResultTaken,
		CodeExpired, CodeCanceled, CodeOutcomeUnknown, CodeInternal, CodeRowsFull, CodeRowsUnavailable,
		CodeParamsNotFound, CodeParamsDigest, CodeParamsInvalid, CodeParamsUnavailable,
		db.CodeSyntax, db.CodeUndefined, db.CodePermission, db.CodeReadOnly, db.CodeUnique, db.CodeForeignKey,
		db.CodeNotNull, db.CodeCheck, db.CodeConstraint, db.CodeData, db.CodeParameter,
		db.CodeMultipleStatements, db.CodeTransactionControl, db.CodeForbiddenStatement,
		db.CodeTransactionAborted, db.CodeDuplicateColumn, db.CodeExpectRows, db.CodeResultTooLarge,
		db.CodeTimeout, db.CodeLockTimeout, db.CodeSerialization, db.CodeDeadlock, db.CodeConnectionLost,
		db.CodeUnavailable, db.CodeResources, db.CodeNotSupported, db.CodeDatabase,
		migration.CodeFolder, migration.CodeTarget, migration.CodeRefused, migration.CodeDirty, migration.CodeLocked,
		migration.CodePassed,
	}
}
