package postgres

import (
	"context"

	"dbrunner/internal/db"
)

// Read runs the statement in a READ ONLY transaction, in one trip. The server refuses writes to tables and
// sequences there, not everything that a function of a privileged login could do: the guarantee is a login
// that may only read.
func (d *Database) Read(ctx context.Context, call db.Call, stmt *db.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	l, err := d.begin(ctx, &call, opts)
	if err != nil {
		return db.ResultSet{}, err
	}
	defer l.done()
	set, again, err := l.read(ctx, &call, stmt, opts, true)
	if again {
		l.encoder.Reset(opts)
		set, _, err = l.read(ctx, &call, stmt, opts, false)
	}
	return set, err
}

// read is one attempt. again: the session had lost a statement under its name, or it is stale.
func (l *lease) read(
	ctx context.Context, call *db.Call, stmt *db.Compiled, opts db.RowOptions, named bool,
) (set db.ResultSet, again bool, err error) {
	var one [1]db.ResultSet
	out := outcome{sets: one[:0]}
	if err := l.resolve([]*db.Compiled{stmt}); err != nil {
		return set, false, l.ownError(ctx, err)
	}
	l.startTrip(opts)
	ours := l.appendBegin("BEGIN READ ONLY", call)
	if err := l.appendStatement(stmt, named); err != nil {
		l.unsettle()
		return set, false, err
	}
	l.buf = appendSync(l.buf)
	l.buf = append(l.buf, l.d.ends.read.messages...)
	if err := l.firstTrip(ctx, ours, &out); err != nil {
		return set, false, err
	}
	l.pending += l.d.ends.read.answers
	l.flushed()
	if l.stale(&out) {
		l.forgetSent()
		return set, named, l.failure(ctx, &out)
	}
	if !out.ok() {
		return set, false, l.failure(ctx, &out)
	}
	if err := l.nameTypes(); err != nil {
		return set, false, l.ownError(ctx, err)
	}
	return out.sets[0], false, nil
}
