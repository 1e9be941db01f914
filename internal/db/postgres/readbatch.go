package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

const (
	// maxShared is the maximum number of reads in one batch.
	maxShared = 16
	// maxHanded is how often a session goes from one leader to the next before the pool sees it again, which may
	// want to renew it.
	maxHanded = 256
	// quickTime is how much longer than the quickest one a read may take, and quickSize how many bytes its rows may
	// have, for its statement to share a batch; sharedTime is the same for a whole batch.
	quickTime  = 2 * time.Millisecond
	quickSize  = 8 << 10
	sharedTime = 10 * time.Millisecond
	// stallTime is how long the reads of a batch may delay each other. It is long, because a session is lost with a
	// batch that is given up.
	stallTime = time.Second

	// nextName is the statement between two reads of a batch: it ends the transaction of one and starts that of the
	// other, READ ONLY as the one before. A job that takes the name away or gives it to another statement ends the
	// batch, and can keep no effect: the batch's own BEGIN and ROLLBACK are parsed each time.
	nextName = "dbr_next"
	nextSQL  = "ROLLBACK AND CHAIN"
)

// readBatch is multiple reads in one round trip, each in a READ ONLY transaction of its own:
//
//	{BEGIN READ ONLY, statement, ROLLBACK AND CHAIN, statement, …} {ROLLBACK, clean-up}
//
// Only statements go along that were quick in this session and need no other limits than the session's. The server
// skips what follows an error, so that the rest of the batch is sent once more. Whatever else ends the batch early, its
// reads are run again: they change nothing. What a session keeps beyond a transaction (advisory locks) is cleaned at
// the end of the batch.
type readBatch struct {
	*lease
	reads []*pendingRead // the leader's own is the first
	done  int            // of them, in their order
	sure  int            // of those, the clean-up showed that every statement was the engine's
	held  uint64         // those whose answers are there and not given yet, a bit for each
	gone  uint64         // those that are their callers' or the queue's again, a bit for each: not to be touched any more
	out   outcome

	again bool // the leader's own read is to be run once more
	over  bool // under readQueue.mu: the session is not the batch's any more
}

// run executes the reads. again: the leader's own has no answer, and is to be run once more.
func (t *readBatch) run(ctx context.Context) (again bool) {
	started := time.Now()
	t.open(ctx, started.Add(stallTime))
	for t.done < len(t.reads) {
		if err := t.segment(ctx); err != nil {
			return t.broke(ctx, err)
		}
	}
	t.close()
	if time.Since(started) > t.quickest+sharedTime {
		for i := range t.sent {
			t.sent[i].quick = false
		}
	}
	return t.again
}

// startOthers starts the reads that share the leader's round trip, and answers those that may not start.
func (t *readBatch) startOthers() {
	for _, r := range t.reads[1:] {
		t.d.waited.Add(int64(r.waited))
		if r.call.Begin != nil {
			r.err = r.call.Begin()
		}
	}
	kept := t.reads[:1]
	for _, r := range t.reads[1:] { // nothing panics here: a read is either answered or in the batch
		if r.err != nil {
			t.d.reads.answer(r, db.ResultSet{}, r.err)
			continue
		}
		kept = append(kept, r)
	}
	clear(t.reads[len(kept):])
	t.reads = kept
}

// open bounds the batch. A read that was given up before is noticed here; one that is given up later cuts it.
func (t *readBatch) open(ctx context.Context, deadline time.Time) {
	t.d.reads.mu.Lock()
	defer t.d.reads.mu.Unlock()
	_ = t.net.SetDeadline(deadline)
	if ctx.Err() != nil || slices.ContainsFunc(t.reads, func(r *pendingRead) bool { return r.givenUp }) {
		t.cutOff()
	}
}

// close ends the batch's right to the session.
func (t *readBatch) close() {
	t.d.reads.mu.Lock()
	t.over = true
	t.d.reads.mu.Unlock()
}

// cutOff ends what the batch waits for. readQueue.mu is held.
func (t *readBatch) cutOff() {
	if !t.over {
		_ = t.net.SetDeadline(time.Unix(1, 0))
	}
}

// segment sends the reads that have no answer yet and reads the answers up to the first one that fails.
func (t *readBatch) segment(ctx context.Context) error {
	t.out = outcome{sets: t.out.sets[:0], at: -1}
	if err := t.send(); err != nil {
		return err
	}
	r := reader{s: t.session, out: &t.out, next: -1, chained: true, each: t.answer}
	t.encoder.Reset(t.reads[t.done].opts.InMemory())
	err := r.run()
	t.forgetUnsent()
	if err != nil {
		return err
	}
	t.pending++
	t.flushed()
	if r.unexpectedTag {
		t.retire = true
		return errStale
	}
	if err := t.failed(ctx); err != nil {
		return err
	}
	// Give the answers when the clean-up has shown that no read has replaced a statement of another one.
	if err := t.drain(); err != nil {
		return err
	}
	for i, r := range t.reads[t.sure:t.done] {
		if t.held&(1<<(t.sure+i)) != 0 {
			t.d.reads.answer(r, r.set, r.err)
		}
	}
	t.held, t.sure = 0, t.done
	return nil
}

// hold keeps the answer of the read that has just come to its end.
func (t *readBatch) hold(r *pendingRead, set db.ResultSet, err error) {
	r.set, r.err = set, err
	t.held |= 1 << (t.done - 1)
}

func (t *readBatch) send() error {
	t.startRoundTrip(t.widest())
	if !t.chain {
		t.buf = appendParse(t.buf, nextName, nextSQL, nil)
		t.chain = true
	}
	t.appendOurs("BEGIN READ ONLY")
	for i, r := range t.reads[t.done:] {
		if i > 0 {
			t.buf = appendRun(t.buf, nextName)
		}
		if err := t.appendStatement(r.stmt, true); err != nil {
			t.forgetUnsent()
			return err
		}
	}
	t.buf = append(appendSync(t.buf), t.ends.read.in(t.session)...)
	err := t.drain()
	if err == nil && t.status != 'I' {
		err = errOutOfOrder
	}
	if err == nil {
		_, err = t.write()
	}
	if err != nil {
		t.forgetUnsent()
	}
	return err
}

// widest are the options of the read with the highest limit on bytes, for the limit on one message.
func (t *readBatch) widest() db.RowOptions {
	opts := t.reads[t.done].opts
	for _, r := range t.reads[t.done:] {
		if row := r.opts.LargestRow(); row == 0 || opts.LargestRow() != 0 && row > opts.LargestRow() {
			opts = r.opts
		}
	}
	return opts
}

// answer is called when a statement has come to its end.
func (t *readBatch) answer() {
	r, out := t.reads[t.done], &t.out
	t.done++
	switch {
	case r.overflows(out):
		t.putBack(r)
	case out.refuse != nil:
		t.hold(r, db.ResultSet{}, out.refuse.At(0))
	default:
		t.hold(r, out.sets[0], nil)
	}
	out.sets, out.refuse, out.at = out.sets[:0], nil, -1
	if t.done < len(t.reads) {
		t.encoder.Reset(t.reads[t.done].opts.InMemory())
	}
}

// overflows reports whether a read has more rows than it may have in memory, so that it needs a round trip of its own.
func (r *pendingRead) overflows(out *outcome) bool {
	return r.opts.Overflow != nil && out.refuse != nil && out.refuse.Code == contract.CodeResultTooLarge
}

// putBack lets a read be run again, in a round trip of its own.
func (t *readBatch) putBack(r *pendingRead) {
	r.alone = true
	if r == t.reads[0] {
		t.again = true
		return
	}
	t.gone |= 1 << (t.done - 1)
	t.d.reads.back([]*pendingRead{r}, engine.GivenUp(nil))
}

// unanswered returns the reads other than the leader's that still wait for this batch.
func (t *readBatch) unanswered() []*pendingRead {
	var rest []*pendingRead
	for i, r := range t.reads {
		if i >= max(1, t.sure) && t.gone&(1<<i) == 0 {
			rest = append(rest, r)
		}
	}
	return rest
}

// failed handles an error of the server. A statement's error is its read's answer, and the others go on; any other
// error ends the batch.
func (t *readBatch) failed(ctx context.Context) error {
	e := t.out.failed
	switch {
	case e == nil && t.done == len(t.reads):
		return nil
	case e == nil:
		return errOutOfOrder
	case t.out.at < 0: // ours: BEGIN, or what stands between two reads
		t.retire = true
		return errStale
	}
	at := &t.sent[t.out.at]
	at.quick = false
	r := t.reads[t.done]
	if t.stale(&t.out) {
		t.statement.forget(at.prepared)
		return errStale
	}
	failure := t.failure(ctx, &t.out)
	failure.Statement = 0
	t.done++
	t.hold(r, db.ResultSet{}, failure)
	return nil
}

// errStale ends a batch in which a statement, a read's or ours, was not any more what the session had prepared.
var errStale = errors.New("postgres: a prepared statement is stale")

// broke ends a batch that cannot go on. The error is the answer of the read that was running, unless the read did not
// cause it or only delayed the others; all others without an answer are run again.
func (t *readBatch) broke(ctx context.Context, cause error) (again bool) {
	t.close()
	for i, r := range t.reads[t.sure:t.done] {
		if t.held&(1<<(t.sure+i)) != 0 {
			r.set.Free()
			r.set, r.err = db.ResultSet{}, nil
		}
	}
	again = t.sure == 0
	var current *pendingRead // whose statement was under way
	if t.done < len(t.reads) {
		current = t.reads[t.done]
	}
	switch {
	case t.unclean: // any of them may have done it
		t.markBroken(false)
		t.reads[0].alone = t.reads[0].alone || t.sure == 0
		for _, r := range t.unanswered() {
			r.alone = true
		}
	case errors.Is(cause, errStale): // the session is in order, or retires
		if current != nil {
			current.alone = true
		}
	case current == nil:
		t.abandon(cause)
	case current.overflows(&t.out), timedOut(cause) && ctx.Err() == nil:
		t.abandon(cause)
		current.alone = true
	case timedOut(cause):
		t.abandon(cause)
	default:
		t.abandon(cause)
		t.gone |= 1 << t.done
		again = again && current != t.reads[0]
		t.d.reads.answer(current, db.ResultSet{}, t.breakage(ctx, cause))
	}
	t.d.reads.back(t.unanswered(), engine.GivenUp(nil))
	return again || t.again
}

// breakage returns the answer of the read that was running when the batch broke.
func (t *readBatch) breakage(ctx context.Context, cause error) *db.Error {
	if e := t.out.failed; e != nil && fatal(e) {
		t.d.lost()
	}
	if t.out.ok() {
		return engine.NotEncoded(t.ownError(ctx, cause))
	}
	failure := t.failure(ctx, &t.out)
	failure.Statement = min(t.out.at, 0)
	return failure
}

// gather makes a batch of the leader's read and waiting ones; nil if there are none, or the leader's cannot share one.
func (l *lease) gather(own *pendingRead) *readBatch {
	if own.alone || !l.shares(own) {
		return nil
	}
	t := &readBatch{lease: l, reads: make([]*pendingRead, 1, maxShared)}
	t.reads[0] = own
	l.d.reads.gather(t, l.shares)
	if len(t.reads) == 1 {
		return nil
	}
	return t
}

// shares reports whether a read may share a batch in this session. readQueue.mu may be held.
func (l *lease) shares(r *pendingRead) bool {
	_, types := l.typesOf(r.stmt.Args)
	p := l.statement.byKey[cacheKey{r.stmt.SQL, types}]
	// The call must need nothing in its transaction that the session does not have by itself.
	return p != nil && p.quick && p.parsed && p.described && !r.opts.AlwaysOverflow &&
		l.d.local == "" && !l.d.settings.label && r.call.Timeout == l.d.opts.Limits.StatementTimeout
}

// pace records how long a read took that had a round trip of its own.
func (l *lease) pace(p *prepared, took time.Duration, size int) {
	l.quickest = min(took, l.quickest+l.quickest/64+time.Microsecond) // rises slowly: the way may have become longer
	p.quick = took <= l.quickest+quickTime && size <= quickSize
}
