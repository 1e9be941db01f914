package sqlserver

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Read runs the statement in a transaction that is rolled back, all in one request. That is no guard against what
// survives a rollback (sequences, linked servers): the guarantee is a login that may only read.
func (d *Database) Read(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	if err := d.readable(stmt); err != nil {
		return db.ResultSet{}, err
	}
	s, err := d.begin(ctx, &call)
	if err != nil {
		return db.ResultSet{}, err
	}
	defer d.release(s)
	ctx, done := s.limit(ctx, call.Timeout)
	defer done()
	before := d.texts.own + d.labelSQL(call.Label) + "BEGIN TRANSACTION; "
	r, err := nested(stmt, before, "; "+rollbackSQL)
	if err != nil {
		return db.ResultSet{}, err
	}
	s.encoder.Reset(opts)
	out := collector{encoder: &s.encoder}
	if err := s.run(ctx, r, &out); err != nil {
		failure := d.failure(ctx, s, err, 0)
		s.rollback(ctx)
		return db.ResultSet{}, failure
	}
	set := out.set()
	if set.Columns == nil || len(set.More) > 0 {
		return db.ResultSet{}, db.Errorf(db.ClassPermanent, contract.CodeMultipleStatements, "a query is one statement that returns rows").At(0)
	}
	return set, nil
}

// readable checks the text again, because the server accepts multiple statements in one, and the login.
func (d *Database) readable(stmt *dialect.Compiled) error {
	if err := d.single(stmt, 0); err != nil {
		return err
	}
	if faults := dialect.CheckReadOnly(d.dialect, stmt.SQL); len(faults) > 0 {
		return faultError(&faults[0], 0)
	}
	if d.settings.readOnlyLogin {
		return d.rights.refuseWriter()
	}
	return nil
}

// single refuses a text that is more than one statement, or that controls the transaction.
func (d *Database) single(stmt *dialect.Compiled, at int) error {
	faults := dialect.CheckText(d.dialect, stmt.SQL)
	if len(faults) == 0 {
		return nil
	}
	return faultError(&faults[0], at)
}

func faultError(f *contract.Fault, at int) *db.Error {
	return db.Errorf(db.ClassPermanent, f.Code, "%s", f.Message).At(at)
}

// begin takes a session for a call.
func (d *Database) begin(ctx context.Context, call *db.Call) (*session, error) {
	s, err := d.acquire(ctx)
	if err != nil {
		return nil, err
	}
	if call.Begin != nil {
		if err := call.Begin(); err != nil {
			d.release(s)
			return nil, err
		}
	}
	return s, nil
}
