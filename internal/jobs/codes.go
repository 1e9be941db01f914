package jobs

import "dbrunner/contract"

// The codes of errors in a job's body.
const (
	CodeInvalidJSON       = contract.CodeInvalidJSON
	CodeTooLarge          = contract.CodeTooLarge
	CodeTooDeep           = contract.CodeTooDeep
	CodeInvalidBody       = contract.CodeInvalidBody
	CodeUnknownKey        = contract.CodeUnknownKey
	CodeDuplicateKey      = contract.CodeDuplicateKey
	CodeMissingKey        = contract.CodeMissingKey
	CodeInvalidValue      = contract.CodeInvalidValue
	CodeInvalidID         = contract.CodeInvalidID
	CodeVersion           = contract.CodeVersion
	CodeReplyTo           = contract.CodeReplyTo
	CodeKindNotAllowed    = contract.CodeKindNotAllowed
	CodeEffectNotAllowed  = contract.CodeEffectNotAllowed
	CodeParameterNotTyped = contract.CodeParameterNotTyped
)

// The codes of outcomes that the runner decides.
const (
	CodeTooManyDeliveries = contract.CodeTooManyDeliveries
	CodeIDReused          = contract.CodeIDReused
	CodeResultTaken       = contract.CodeResultTaken
	CodeExpired           = contract.CodeExpired
	CodeCanceled          = contract.CodeCanceled
	CodeOutcomeUnknown    = contract.CodeOutcomeUnknown
	CodeInternal          = contract.CodeInternal
	CodeParamsUnavailable = contract.CodeParamsUnavailable
)

// Codes returns all codes that a result can have.
func Codes() []contract.Code { return contract.Codes() }
