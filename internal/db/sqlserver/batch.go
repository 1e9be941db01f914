package sqlserver

import (
	"context"
	"errors"
	"strconv"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// togetherRows is the most rows that one INSERT may have.
const togetherRows = 1000

// executeBatch runs one statement for each row of its batch. A plain INSERT is written for many rows together where each
// column has one declared type in all of them: the server would bring different ones to a common type first.
func (t *transaction) executeBatch(ctx context.Context, stmt *dialect.Compiled, at int) error {
	b := batchRun{t: t, stmt: stmt, at: at, insert: dialect.ParseMultiRowInsert(t.d.dialect, stmt.SQL)}
	_, err := engine.EachOf(ctx, stmt.Batch, func(row int64, args []dialect.Value) error { // send the rows that wait where the row cannot join them
		together := b.insert != nil && len(args) == b.insert.Params
		full := b.rows == togetherRows || len(b.values)+len(args) > b.t.d.dialect.MaxParams
		if b.rows > 0 && (!together || full || !b.fits(args)) {
			if err := b.send(ctx); err != nil {
				return err
			}
		}
		if b.rows == 0 {
			b.first = row
			b.declared = append(b.declared[:0], make([]string, len(args))...)
		}
		for i := range args {
			if args[i].Kind != dialect.Null {
				arg, _ := convert(args[i])
				b.declared[i] = arg.declared
			}
		}
		b.values = append(b.values, args...)
		b.rows++
		if together {
			return nil
		}
		return b.send(ctx)
	})
	if err == nil {
		err = b.send(ctx)
	}
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own.At(at)
	}
	if err != nil {
		return err
	}
	if failure := engine.CheckGuard(t.tx.Expect, at, b.affected); failure != nil {
		return failure
	}
	t.sets = append(t.sets, db.ResultSet{RowsAffected: b.affected})
	return nil
}

// batchRun is the running of a statement for its batch.
type batchRun struct {
	t      *transaction
	stmt   *dialect.Compiled
	at     int
	insert *dialect.MultiRowInsert // writes many rows together; nil: the statement is none that could

	first    int64           // row of those that wait, from 1
	rows     int             // that wait
	values   []dialect.Value // of those that wait
	declared []string        // types of their columns; empty: only NULL so far
	affected int64
}

// fits reports whether a row's values are of the types of those that wait.
func (b *batchRun) fits(args []dialect.Value) bool {
	for i := range args {
		if args[i].Kind == dialect.Null || b.declared[i] == "" {
			continue
		}
		if arg, _ := convert(args[i]); arg.declared != b.declared[i] {
			return false
		}
	}
	return true
}

// send executes the statement for the rows that wait.
func (b *batchRun) send(ctx context.Context) error {
	if b.rows == 0 {
		return nil
	}
	one := &dialect.Compiled{SQL: b.stmt.SQL, Args: b.values}
	if b.rows > 1 {
		one.SQL = b.insert.Text(b.rows)
	}
	r, err := call(one)
	out := collector{encoder: &b.t.encoder}
	if err == nil {
		err = b.t.startCounting(ctx)
	}
	if err == nil {
		err = b.t.run(ctx, r, &out)
	}
	if err != nil {
		// Name the row that failed, or the rows it is among.
		e := b.t.d.failure(ctx, b.t.session, err, b.at)
		if e.Class != db.ClassPermanent {
			return e
		}
		if b.rows == 1 {
			return e.InRow(b.first)
		}
		named := *e
		named.Message = "one of the rows " + strconv.FormatInt(b.first, 10) + " to " + strconv.FormatInt(b.first+int64(b.rows)-1, 10) + " of the batch: " + e.Message
		return &named
	}
	b.t.addWritten(b.stmt, &out)
	set := out.set()
	if set.Columns != nil {
		return engine.BatchWithRows()
	}
	b.affected += set.RowsAffected
	b.rows, b.values = 0, b.values[:0]
	return nil
}
