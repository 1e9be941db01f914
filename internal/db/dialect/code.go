package dialect

import "dbrunner/contract"

// Code is a stable public word for what is wrong with a statement.
type Code = contract.Code

// The codes of statements.
const (
	CodeSyntax             = contract.CodeSyntax
	CodeReadOnly           = contract.CodeReadOnly
	CodeParameter          = contract.CodeParameter
	CodeMultipleStatements = contract.CodeMultipleStatements
	CodeTransactionControl = contract.CodeTransactionControl
	CodeForbiddenStatement = contract.CodeForbiddenStatement
)
