package dialect

import (
	"context"
)

// ValueKind is the JSON kind of a parameter's value.
type ValueKind uint8

// The kinds of values.
const (
	Null ValueKind = iota + 1
	Bool
	Number
	String
	Array  // only with a type
	Object // only with a type (json)
)

// Value is one parameter as the publisher wrote it, undecoded, so that nothing is lost on the way.
type Value struct {
	Kind ValueKind
	Type string // the type of {"type": …, "value": …}; empty = let the database infer it
	Text string // String: the decoded text; otherwise the JSON text of the value
}

// Params are a statement's parameters: by name, by position, or none. At most one of the two is set.
type Params struct {
	Named map[string]Value
	List  []Value
}

// Statement is one SQL statement as the publisher wrote it.
type Statement struct {
	SQL    string
	Params Params
}

// Compiled is a statement in the engine's own words, with its arguments in the order of its placeholders.
type Compiled struct {
	SQL    string
	Args   []Value
	Origin *Origin // what SQL was made of; nil: it is the publisher's own text

	// Batch runs the statement once for each of its rows, in order, in the one transaction; nil: once, with Args.
	// RowsAffected is the sum. Such a statement cannot return rows.
	Batch Batch
}

// Batch gives the arguments of a statement that runs once for each of its rows. It may be opened several times: each
// attempt of a transaction starts with the first row.
type Batch interface {
	// Open starts to give them. The caller closes what it opens.
	Open(ctx context.Context) (BatchRows, error)
}

// BatchRows are the rows of arguments of one attempt. They are for one goroutine.
type BatchRows interface {
	// Next returns the arguments of the next row in the order of the placeholders, which are good until the next call.
	// io.EOF: there are no more, and all that were given are those that were meant. An *Error is the statement's; any
	// other is a defect.
	Next() ([]Value, error)
	Close() error
}
