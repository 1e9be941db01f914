package jobs

import "dbrunner/contract"

// Results in the words of the contract.
type (
	// Result is contract.Result.
	Result = contract.Result
	// ResultError is contract.Error.
	ResultError = contract.Error
	// ResultHead is contract.Head.
	ResultHead = contract.Head
)

// ReadResult reads the head of an encoded result.
func ReadResult(body []byte) (ResultHead, error) { return contract.ReadHead(body) }

// MarkDuplicate returns a stored result marked as a duplicate.
func MarkDuplicate(body []byte) []byte { return contract.MarkDuplicate(body) }
