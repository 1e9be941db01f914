package postgres

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// round sends the transactions that are left, and moves those that succeed to the good ones. Those that fail leave the group.
// false: the group is over, and is to be rolled back.
func (t *sharedCommit) round(ctx context.Context) bool {
	t.send()
	if len(t.parts) == 0 {
		return true
	}
	if _, err := t.write(); err != nil {
		t.forgetFrom(0)
		t.broke(err)
		return false
	}
	failed, ok := t.readParts()
	if t.flushed(); !ok || t.status != 'T' && failed == nil {
		return false
	}
	if failed == nil {
		if err := t.nameTypes(); err != nil {
			return false
		}
	}
	return t.sort(ctx, failed)
}

// send puts the transactions that are left into the buffer. One whose parameters cannot be sent leaves the group.
func (t *sharedCommit) send() {
	t.startRoundTrip(t.widest())
	if t.opening != "" {
		t.buf = appendSimple(t.buf, t.opening)
	}
	kept := t.parts[:0]
	for _, p := range t.parts {
		begin := len(t.buf)
		if !t.appendPart(p) {
			t.forgetUnsent()
			t.buf = t.buf[:begin]
			continue
		}
		p.savepoint = len(t.open) - 1
		// The savepoint behind the last one, too: without a transaction it fails, and takes with it what was done outside of one.
		t.buf = appendSimple(t.buf, betweenShared+t.ends.stylesAlone+"; "+t.nextSavepoint())
		kept = append(kept, p)
	}
	clear(t.parts[len(kept):])
	t.parts = kept
	t.buf = appendSync(t.buf)
}

// appendPart appends the statements of a transaction, and what of ours they need.
func (t *sharedCommit) appendPart(p *sharedPart) bool {
	t.sent = nil
	p.ours, p.after, p.before, p.written = appendLocal(t.lease, p.Call), 0, nil, nil
	p.out = outcome{sets: make([]db.ResultSet, 0, len(p.Tx.Statements)), at: -1}
	if p.Tx.MaxAffected > 0 {
		p.before = writtenRowsBefore{}
		p.out.ours = p.takeWritten
		p.ours += t.appendOurs(writtenBefore)
	}
	for _, stmt := range p.Tx.Statements {
		if t.appendStatement(stmt, true) != nil {
			return false
		}
	}
	if p.before != nil {
		p.after = t.appendOurs(writtenNow)
	}
	p.sent = t.sent
	return true
}

// takeWritten takes the counts of rows that were written. Their width distinguishes them.
func (p *sharedPart) takeWritten(body []byte) {
	switch from, _ := rowOf(body); from.count {
	case 2:
		p.before.take(body)
	case writtenName + 1:
		if row, ok := copyRow(body); ok {
			p.written = append(p.written, row)
		}
	}
}

// readParts reads the answers, up to the first transaction that the server does not accept; nil: it accepts all.
func (t *sharedCommit) readParts() (failed *sharedPart, ok bool) {
	if t.opening != "" && !t.opened() {
		t.forgetFrom(0)
		return nil, false
	}
	for i, p := range t.parts {
		t.sent = p.sent
		t.encoder.Reset(p.Opts.InMemory())
		r := reader{s: t.session, out: &p.out, next: -p.ours}
		err := r.run()
		t.forgetUnsent()
		if err != nil {
			t.forgetFrom(i + 1)
			if p.out.failed != nil && fatal(p.out.failed) {
				err = errEnded
			}
			t.broke(err)
			return nil, false
		}
		if p.out.failed == nil {
			if t.status != 'T' || p.endedTransaction() {
				t.forgetFrom(i + 1)
				t.markBroken(true)
				return nil, false
			}
			continue
		}
		t.forgetFrom(i + 1)
		switch inside := r.next < len(p.sent)+p.after; {
		case t.status != 'E': // the transaction has ended, and those behind it may be at work outside of it
			t.markBroken(true)
			return nil, false
		case !inside: // in the query that cleans the session: the end of what the server has skipped follows
			if err := t.readSegment(new(segmentEnd)); err != nil {
				t.broke(err)
			}
			return nil, false
		}
		return p, t.leavesAlone(p)
	}
	if err := t.readSegment(new(segmentEnd)); err != nil {
		t.broke(err)
		return nil, false
	}
	return nil, true
}

// leavesAlone reports whether the others may go on without a transaction that the server has refused.
func (t *sharedCommit) leavesAlone(p *sharedPart) bool {
	if t.sent = p.sent; t.stale(&p.out) {
		t.forgetSent()
	}
	class := judge(p.out.failed).class
	return p.out.at >= 0 && !t.retire && (class == db.ClassPermanent || class == db.ClassTimeout)
}

// endedTransaction reports a statement that has ended or divided the transaction.
func (p *sharedPart) endedTransaction() bool {
	for i := range p.out.sets {
		if endsTransaction(p.out.sets[i].Command) {
			return true
		}
	}
	return false
}

// forgetFrom takes back what the cache believes of transactions whose messages the server did not read.
func (t *sharedCommit) forgetFrom(i int) {
	for _, p := range t.parts[i:] {
		t.sent = p.sent
		t.forgetUnsent()
	}
}

// sort moves the transactions that have succeeded to the good ones. Where one has not, those behind it have seen what it did, and
// are run again; failed is the one that the server has refused.
func (t *sharedCommit) sort(ctx context.Context, failed *sharedPart) bool {
	var first *sharedPart // that is rolled back
	var again []*sharedPart
	for i, p := range t.parts {
		if p == failed {
			if first == nil {
				first = p
			}
			again = append(again, t.parts[i+1:]...)
			break
		}
		switch holds := p.holds(); {
		case first == nil && holds && p.Sealed(ctx, p.out.sets):
			t.good = append(t.good, p)
			continue
		case first != nil && holds:
			again = append(again, p)
		case first == nil:
			first = p
		}
		p.free()
	}
	t.parts = again
	if first == nil || t.dead {
		return !t.dead
	}
	t.open = t.open[:first.savepoint+1]
	t.opening = "ROLLBACK TO SAVEPOINT " + t.open[first.savepoint] + "; DISCARD SEQUENCES"
	return true
}

// holds reports whether a transaction has succeeded as far as the engine knows: its rows have room, its guards hold, and its limit
// on rows.
func (p *sharedPart) holds() bool {
	if !p.out.ok() || len(p.out.sets) < len(p.Tx.Statements) {
		return false
	}
	for i := range p.Tx.Expect {
		if engine.CheckGuard(p.Tx.Expect, i, p.out.sets[i].RowsAffected) != nil {
			return false
		}
	}
	if p.before == nil {
		return true
	}
	total, failure := p.before.increase(p.written)
	return failure == nil && engine.CheckAffected(p.Tx, total) == nil
}

// widest are the options of the transaction with the highest limit on bytes, for the limit on one message.
func (t *sharedCommit) widest() (opts db.RowOptions) {
	for i, p := range t.parts {
		if row := p.Opts.LargestRow(); i == 0 || row == 0 || opts.LargestRow() != 0 && row > opts.LargestRow() {
			opts = p.Opts
		}
	}
	return opts
}
