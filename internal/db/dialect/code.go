package dialect

// Code is a stable public word for what went wrong; results carry it as error.code.
type Code string

// The codes of what is wrong with a statement's text and parameters.
const (
	CodeSyntax             Code = "syntax_error"
	CodeReadOnly           Code = "read_only_violation" // a write where only reads are allowed
	CodeParameter          Code = "parameter_error"     // a parameter is missing, left over or cannot be bound
	CodeMultipleStatements Code = "multiple_statements" // one statement was expected
	CodeTransactionControl Code = "transaction_control" // BEGIN, COMMIT, … inside a job
	CodeForbiddenStatement Code = "forbidden_statement" // a statement that jobs may not use
)
