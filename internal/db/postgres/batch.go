package postgres

import (
	"context"
	"errors"
	"strconv"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

const (
	// batchRows is the maximum number of a batch's rows in one round trip, and batchBytes their maximum size, bytes.
	batchRows  = 1000
	batchBytes = 256 << 10
	// togetherParams is the maximum number of parameters of one multi-row INSERT.
	togetherParams = 1000
)

// runOne runs a statement in the open transaction, in a round trip of its own; with a batch, in as many as the rows need.
func (t *transaction) runOne(ctx context.Context, stmt *dialect.Compiled, i int) (set db.ResultSet, err error) {
	if stmt.Batch != nil {
		return t.runBatch(ctx, stmt, i)
	}
	if err := t.resolve([]*dialect.Compiled{stmt}); err != nil {
		return set, t.ownError(ctx, err)
	}
	t.startRoundTrip(t.opts)
	if err := t.appendStatement(stmt, t.named); err != nil {
		t.forgetUnsent()
		return set, engine.NotEncoded(err).At(i)
	}
	t.buf = appendSync(t.buf)
	out := outcome{sets: make([]db.ResultSet, 0, 1)}
	if err := t.answered(ctx, 0, &out, nil); err != nil {
		return set, err
	}
	if err := t.checkOutcome(ctx, &out, i); err != nil {
		return set, err
	}
	return out.sets[0], t.bounds(ctx)
}

// runBatch runs a statement once per row of its batch.
func (t *transaction) runBatch(ctx context.Context, stmt *dialect.Compiled, i int) (set db.ResultSet, err error) {
	reading := ctx // of parameters that are outside of the job
	if !t.deadline.IsZero() {
		var stop context.CancelFunc
		reading, stop = context.WithDeadline(ctx, t.deadline)
		defer stop()
	}
	b := batchRun{t: t, stmt: stmt, index: i, insert: dialect.ParseMultiRowInsert(t.d.Dialect(), stmt.SQL)}
	_, err = engine.EachOf(reading, stmt.Batch, func(row int64, args []dialect.Value) error { // send the rows that wait when they are enough
		if len(b.waiting) == 0 {
			b.first = row
		}
		from := len(b.values)
		b.values = append(b.values, args...)
		for i := range args {
			b.bytes += len(args[i].Text) + 16
			b.typed = b.typed || args[i].Type != ""
		}
		b.waiting = append(b.waiting, dialect.Compiled{SQL: b.stmt.SQL, Args: b.values[from:len(b.values):len(b.values)], Origin: b.stmt.Origin})
		if len(b.waiting) < batchRows && b.bytes < batchBytes {
			return nil
		}
		return b.send(ctx)
	})
	if err == nil {
		err = b.send(ctx)
	}
	if err == nil {
		err = b.settle(ctx)
	} else {
		_ = b.settle(ctx) // so that the transaction can be ended
	}
	if err != nil {
		if own, ok := errors.AsType[*db.Error](err); ok {
			return set, own.At(i)
		}
		return set, err
	}
	return db.ResultSet{RowsAffected: b.affected}, nil
}

// checkOutcome checks the result of a round trip in the open transaction.
func (t *transaction) checkOutcome(ctx context.Context, out *outcome, i int) error {
	t.flushed()
	if t.stale(out) {
		t.forgetSent()
		t.again = t.named
	}
	switch {
	case !out.ok():
		e := t.failure(ctx, out)
		t.failedAt, e.Statement = max(out.at, 0), i
		return e
	case t.status != 'T':
		t.markBroken(false)
		return errTransactionEnded()
	}
	return nil
}

// batchRun is the running of a statement for its batch. While the server works on the rows that were sent last, the next
// ones are read and encoded.
type batchRun struct {
	t      *transaction
	stmt   *dialect.Compiled
	index  int
	insert *dialect.MultiRowInsert // nil: the statement is no such INSERT

	first    int64              // row of those that wait, from 1
	waiting  []dialect.Compiled // one execution each
	values   []dialect.Value    // of those that wait, one after the other
	bytes    int
	typed    bool    // one of the values has a type of its own
	flight   *flight // was sent, and its answers are out; nil: nothing is
	affected int64
}

// flight is what a round trip of a batch has sent.
type flight struct {
	sent  []sent
	first int64 // row
	rows  int
	each  int // rows of one statement, but for the last ones
}

// send sends the rows that wait, and reads the answers to those that were sent before.
func (b *batchRun) send(ctx context.Context) error {
	if len(b.waiting) == 0 {
		return nil
	}
	statements, each := b.statements()
	if b.typed { // a type may have to be looked up
		if err := b.settle(ctx); err != nil {
			return err
		}
		if err := b.t.resolve(statements); err != nil {
			return b.t.ownError(ctx, err)
		}
	}
	next, err := b.post(ctx, statements, each)
	if err != nil {
		return err
	}
	err = b.settle(ctx)
	b.flight = next
	if err != nil { // the transaction is over: what comes back for these is no news
		_ = b.settle(ctx)
		return err
	}
	clear(b.values)
	b.waiting, b.values, b.bytes, b.typed = b.waiting[:0], b.values[:0], 0, false
	return b.t.bounds(ctx)
}

func (b *batchRun) post(ctx context.Context, statements []*dialect.Compiled, each int) (*flight, error) {
	t := b.t
	t.flushed()
	t.sent = nil // those of the flight are still to be answered
	t.startRoundTrip(t.opts)
	for _, stmt := range statements {
		if err := t.appendStatement(stmt, t.named); err != nil {
			t.forgetUnsent()
			return nil, engine.NotEncoded(err)
		}
	}
	t.buf = appendSync(t.buf)
	if _, err := t.write(); err != nil {
		return nil, t.answers(ctx, 0, &outcome{at: -1}, err)
	}
	return &flight{sent: t.sent, first: b.first, rows: len(b.waiting), each: each}, nil
}

// settle reads the answers that are out.
func (b *batchRun) settle(ctx context.Context) error {
	f := b.flight
	if f == nil || b.t.dead {
		return nil
	}
	b.flight = nil
	current := b.t.sent
	b.t.sent = f.sent
	defer func() { b.t.sent = current }()
	out := outcome{sets: make([]db.ResultSet, 0, len(f.sent))}
	err := b.t.answers(ctx, 0, &out, nil)
	if err == nil {
		err = b.t.checkOutcome(ctx, &out, b.index)
	}
	if own, ok := errors.AsType[*db.Error](err); ok && own.Class == db.ClassPermanent {
		// Name the row that failed, or the rows it is among.
		at, whole := int64(b.t.failedAt), int64(0)
		if f.each > 1 {
			whole = int64(f.rows / f.each)
		}
		if at >= whole {
			return own.InRow(f.first + whole*int64(f.each) + at - whole)
		}
		from := f.first + at*int64(f.each)
		named := *own
		named.Message = "one of the rows " + strconv.FormatInt(from, 10) + " to " + strconv.FormatInt(from+int64(f.each)-1, 10) + " of the batch: " + own.Message
		return &named
	}
	if err != nil {
		return err
	}
	for i := range out.sets {
		if out.sets[i].Columns != nil {
			return engine.BatchWithRows()
		}
		b.affected += out.sets[i].RowsAffected
	}
	return nil
}

// statements are those that write the rows that wait: each of them so many, but for the last ones.
func (b *batchRun) statements() (list []*dialect.Compiled, each int) {
	each = 1
	if b.insert != nil && !b.typed && len(b.waiting[0].Args) == b.insert.Params {
		each = max(1, min(len(b.waiting), togetherParams/max(1, b.insert.Params)))
	}
	width := len(b.waiting[0].Args)
	done := 0
	for ; each > 1 && done+each <= len(b.waiting); done += each {
		list = append(list, &dialect.Compiled{SQL: b.insert.Text(each), Args: b.values[done*width : (done+each)*width], Origin: b.stmt.Origin})
	}
	for ; done < len(b.waiting); done++ {
		list = append(list, &b.waiting[done])
	}
	return list, each
}
