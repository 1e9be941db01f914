package db

import (
	"context"
	"errors"
	"io"
	"strconv"
)

// Batch gives the arguments of a statement that runs once for each of its rows. It may be opened several times: each
// attempt of a transaction begins with the first row.
type Batch interface {
	// Open begins to give them. Whoever opens closes.
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

// EachOf calls do with each row of a batch, counted from 1, until one fails.
func EachOf(ctx context.Context, batch Batch, do func(row int64, args []Value) error) (rows int64, err error) {
	open, err := batch.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = open.Close() }() // what matters of the content was told by Next
	for {
		args, err := open.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows++
		if err := do(rows, args); err != nil {
			return rows, err
		}
	}
}

// BatchWithRows is the answer to a statement that returns rows although it runs for a batch.
func BatchWithRows() *Error {
	return Errorf(ClassPermanent, CodeNotSupported, "a statement that runs for a batch cannot return rows: leave RETURNING or OUTPUT out")
}

// InRow says in which row of a batch an error was met.
func (e *Error) InRow(row int64) *Error {
	named := *e
	named.Message = "row " + strconv.FormatInt(row, 10) + " of the batch: " + e.Message
	return &named
}
