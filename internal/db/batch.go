package db

import (
	"context"
	"errors"
	"io"
	"strconv"

	"dbrunner/internal/db/dialect"
)

// EachOf calls do with each row of a batch, counted from 1, until one fails.
func EachOf(ctx context.Context, batch dialect.Batch, do func(row int64, args []dialect.Value) error) (rows int64, err error) {
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
