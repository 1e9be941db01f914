package engine

import (
	"context"
	"errors"
	"io"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// EachOf calls do with each row of a batch, counted from 1, until one fails.
func EachOf(ctx context.Context, batch dialect.Batch, do func(row int64, args []dialect.Value) error) (rows int64, err error) {
	open, err := batch.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = open.Close() }() // what matters of the content was returned by Next
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
func BatchWithRows() *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "a statement that runs for a batch cannot return rows: leave RETURNING or OUTPUT out")
}
