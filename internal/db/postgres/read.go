package postgres

import (
	"context"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// Read runs the statement in a READ ONLY transaction, in one round trip, which quick reads that wait at the same time
// share. The server refuses writes to tables and sequences there, not everything that a function of a privileged login
// could do: the guarantee is a login that may only read.
func (d *Database) Read(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	r := d.readings.Get().(*pendingRead)
	defer d.dismiss(r)
	r.call, r.stmt, r.opts = &call, stmt, opts
	if !d.reads.enter(r) {
		event, gone := d.await(ctx, r)
		if gone {
			return db.ResultSet{}, engine.WaitGivenUp(ctx)
		}
		if event == answered {
			return r.set, r.err
		}
	}
	return d.lead(ctx, r)
}

// dismiss returns a read to the pool.
func (d *Database) dismiss(r *pendingRead) {
	*r = pendingRead{readEvent: r.readEvent}
	d.readings.Put(r)
}

// await waits for the read's event. gone: the context ended first, and the read is in no queue or batch.
func (d *Database) await(ctx context.Context, r *pendingRead) (event readEvent, gone bool) {
	select {
	case event = <-r.readEvent:
	case <-ctx.Done():
		if d.reads.leave(r) {
			d.canceled.Add(1)
			d.waited.Add(int64(time.Since(r.since)))
			return 0, true
		}
		event = <-r.readEvent
	}
	if event == toLead {
		d.waited.Add(int64(r.waited))
	}
	return event, false
}

// lead runs the read and those that share its batch, and passes the lead on.
func (d *Database) lead(ctx context.Context, r *pendingRead) (db.ResultSet, error) {
	for {
		if set, again, err := d.leadOnce(ctx, r); !again {
			return set, err
		}
	}
}

// leadOnce runs one batch of a leader. again: its own read has no answer yet, and it still leads.
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
		t.startOthers()
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

// panicked ends the lead of a read whose batch panicked.
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

// pass gives the session to the next leader, or to the pool, where other calls may wait for it.
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

// readUnbatched runs one read in a round trip of its own.
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
	started := time.Now()
	l.startRoundTrip(opts)
	ours := l.appendBegin("BEGIN READ ONLY", call)
	if err := l.appendStatement(stmt, named); err != nil {
		l.forgetUnsent()
		return set, false, err
	}
	l.buf = appendSync(l.buf)
	l.buf = append(l.buf, l.ends.read.in(l.session)...)
	if err := l.firstRoundTrip(ctx, ours, &out); err != nil {
		return set, false, err
	}
	l.pending++
	l.flushed()
	l.sent[0].quick = false
	if l.stale(&out) {
		l.forgetSent()
		return set, named, l.failure(ctx, &out)
	}
	if !out.ok() {
		return set, false, l.failure(ctx, &out)
	}
	took := time.Since(started)
	if err := l.nameTypes(); err != nil {
		return set, false, l.ownError(ctx, err)
	}
	l.pace(l.sent[0].prepared, took, len(out.sets[0].Rows))
	return out.sets[0], false, nil
}
