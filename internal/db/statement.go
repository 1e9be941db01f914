package db

import "dbrunner/contract"

// RowOptions reports how rows are encoded and how much of them one call may return.
type RowOptions struct {
	Format   RowFormat
	MaxRows  int64 // over all statements of the call; 0 = no limit
	MaxBytes int64 // of encoded rows over all statements of the call; 0 = no limit

	// Overflow takes the rows of statements that have no room in the call's answer; nil: nothing does.
	Overflow Overflow
	// InlineBytes of rows and columns have room there, over all statements of the call. Without Overflow it means nothing.
	InlineBytes int64
	// Sets is how many sets of rows the call has, as far as is known: the rows of one leave room for the columns of others.
	Sets int
	// AlwaysOverflow sends the rows of every statement to Overflow, however few they are.
	AlwaysOverflow bool

	// Digest has ResultSet.Digest computed.
	Digest bool
	// Keep is how many rows of each set are given, the first ones; 0: all. MaxRows counts the others, too. It does not go
	// with Overflow.
	Keep int64
}

// maxOverflowRow bounds one row that has room outside of the answer only, bytes: it is encoded in memory.
const maxOverflowRow = 64 << 20

// LargestRow is what one row may take at most, in bytes; 0: no limit.
func (o *RowOptions) LargestRow() int64 {
	if o.Overflow == nil {
		return o.MaxBytes
	}
	if largest := max(o.InlineBytes, maxOverflowRow); o.MaxBytes == 0 || largest < o.MaxBytes {
		return largest
	}
	return o.MaxBytes
}

// InMemory returns the options for rows that share a round trip or a commit with those of other calls: they are not offloaded, as the
// others would wait for that.
func (o RowOptions) InMemory() RowOptions {
	if o.Overflow != nil {
		o.Overflow, o.MaxBytes = nil, o.InlineBytes
	}
	return o
}

// Overflow gives the rows of one call a place outside of its answer.
type Overflow interface {
	// Open starts the rows of a set, counted from 0 in the call: of a statement, or of each set of rows that it gives.
	// A set that was opened before, or an earlier one, means that the call has started again: what was opened until then
	// is void.
	Open(set int, columns []contract.Column) (RowFile, error)
}

// RowFile takes the rows of one statement.
type RowFile interface {
	// AsArrays reports that rows are best given as arrays, whatever the call's row format.
	AsArrays() bool
	// Row adds a row, one JSON array or object. The text is only good during the call.
	Row(text []byte) error
	// Close reports that all rows were given, and returns when the whole is durable.
	Close() (*contract.RowsObject, error)
}

// RowFormat is how a row is written.
type RowFormat uint8

// The row formats.
const (
	Objects RowFormat = iota + 1 // {"name": value, …}
	Arrays                       // [value, …]
)
