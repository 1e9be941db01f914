package postgres

import (
	"context"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// Read runs the statement in a READ ONLY transaction, in one trip, which quick reads that wait at the same moment
// share. The server refuses writes to tables and sequences there, not everything that a function of a privileged login
// could do: the guarantee is a login that may only read.
func (d *Database) Read(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	r := d.readings.Get().(*pendingRead)
	defer d.dismiss(r)
	r.call, r.stmt, r.opts = &call, stmt, opts
	if !d.reads.enter(r) {
		told, gone := d.await(ctx, r)
		if gone {
			return db.ResultSet{}, engine.WaitGivenUp(ctx)
		}
		if told == answered {
			return r.set, r.err
		}
	}
	return d.lead(ctx, r)
}

// dismiss takes a reading back that nobody else has any more.
func (d *Database) dismiss(r *pendingRead) {
	*r = pendingRead{readEvent: r.readEvent}
	d.readings.Put(r)
}

// await waits for a turn. gone: the context ended first, and nobody has the reading any more.
func (d *Database) await(ctx context.Context, r *pendingRead) (told readEvent, gone bool) {
	select {
	case told = <-r.readEvent:
	case <-ctx.Done():
		if d.reads.leave(r) {
			d.canceled.Add(1)
			d.waited.Add(int64(time.Since(r.since)))
			return 0, true
		}
		told = <-r.readEvent
	}
	if told == toLead {
		d.waited.Add(int64(r.waited))
	}
	return told, false
}

// lead runs the reading and those that come along, and passes the lead on.
func (d *Database) lead(ctx context.Context, r *pendingRead) (db.ResultSet, error) {
	for {
		if set, again, err := d.leadOnce(ctx, r); !again {
			return set, err
		}
	}
}

// leadOnce is one trip of a leader. again: its own read has no answer yet, and it still leads.
func (d *Database) leadOnce(ctx context.Context, r *pendingRead) (set db.ResultSet, again bool, err error) {
	var l *lease
	var t *readBatch
	ended := false
	defer func() {
		if !ended {
			d.panicked(r, l, t)
		}
	}()
	l, err = d.beginOn(ctx, r.session, r.call, r.opts)
	r.session = nil
	if err != nil {
		ended = true
		d.reads.pass(nil)
		return set, false, err
	}
	if t = l.gather(r); t == nil {
		set, err = l.readUnbatched(ctx, r)
	} else {
		// The other reads of the batch start here, or are refused.
		for _, r := range t.reads[1:] {
			t.d.waited.Add(int64(r.waited))
			if r.call.Begin != nil {
				r.err = r.call.Begin()
			}
		}
		kept := t.reads[:1]
		for _, r := range t.reads[1:] { // nothing panics here: a read is either answered or in the trip
			if r.err != nil {
				t.d.reads.answer(r, db.ResultSet{}, r.err)
				continue
			}
			kept = append(kept, r)
		}
		clear(t.reads[len(kept):])
		t.reads = kept
		again = t.run(ctx)
	}
	ended, l.over = true, true
	switch {
	case again:
		l.done()
	case t == nil:
		l.pass()
	default:
		l.pass()
		<-r.readEvent // the answer
		set, err = r.set, r.err
	}
	return set, again, err
}

// panicked ends a leadership whose trip did not come to its end: nobody waits for it any more.
func (d *Database) panicked(own *pendingRead, l *lease, t *readBatch) {
	if t != nil {
		t.close()
		d.reads.back(t.unanswered(), engine.GivenUp(nil))
		select {
		case <-own.readEvent: // answered before
		default:
		}
	}
	if l != nil {
		l.done()
	}
	d.reads.pass(nil)
}

// pass hands the session to the next reading that leads, or back to the pool: others may wait for it there.
func (l *lease) pass() {
	s := l.session
	if s == nil {
		l.d.reads.pass(nil)
		return
	}
	l.leave()
	s.handoffs++
	if s.dead || s.handoffs == maxHanded || l.d.waits.Any() {
		l.d.release(s)
		l.d.reads.pass(nil)
		return
	}
	s.trim()
	if !l.d.reads.pass(s) {
		l.d.release(s)
	}
}

// readUnbatched runs one read in a trip of its own.
func (l *lease) readUnbatched(ctx context.Context, r *pendingRead) (db.ResultSet, error) {
	set, again, err := l.read(ctx, r.call, r.stmt, r.opts, true)
	if !again {
		return set, err
	}
	if err := l.afresh(ctx, r.opts); err != nil {
		return db.ResultSet{}, err
	}
	set, _, err = l.read(ctx, r.call, r.stmt, r.opts, false)
	return set, err
}

// read is one attempt. again: the session had lost a statement under its name, or it is stale.
func (l *lease) read(
	ctx context.Context, call *db.Call, stmt *dialect.Compiled, opts db.RowOptions, named bool,
) (set db.ResultSet, again bool, err error) {
	var one [1]db.ResultSet
	out := outcome{sets: one[:0]}
	if err := l.resolve([]*dialect.Compiled{stmt}); err != nil {
		return set, false, l.ownError(ctx, err)
	}
	begun := time.Now()
	l.startTrip(opts)
	ours := l.appendBegin("BEGIN READ ONLY", call)
	if err := l.appendStatement(stmt, named); err != nil {
		l.forgetUnsent()
		return set, false, err
	}
	l.buf = appendSync(l.buf)
	l.buf = append(l.buf, l.ends.read.messages...)
	if err := l.firstTrip(ctx, ours, &out); err != nil {
		return set, false, err
	}
	l.cleaned(l.ends.read)
	l.flushed()
	l.sent[0].quick = false
	if l.stale(&out) {
		l.forgetSent()
		return set, named, l.failure(ctx, &out)
	}
	if !out.ok() {
		return set, false, l.failure(ctx, &out)
	}
	took := time.Since(begun)
	if err := l.nameTypes(); err != nil {
		return set, false, l.ownError(ctx, err)
	}
	l.pace(l.sent[0].prepared, took, len(out.sets[0].Rows))
	return out.sets[0], false, nil
}
