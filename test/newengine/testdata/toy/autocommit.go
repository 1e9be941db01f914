package toy

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// autocommit is one Execute under way.
type autocommit struct {
	*session

	once *db.Once
}

// Execute runs one statement; here it takes effect as a whole or not at all.
func (d *Database) Execute(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once,
) (db.ResultSet, error) {
	s, err := d.begin(ctx, &call)
	if err != nil {
		return db.ResultSet{}, err
	}
	defer s.end()
	if once != nil && !d.store.insert(once.Start) {
		return db.ResultSet{}, engine.AlreadyRecorded()
	}
	s.encoder.Reset(opts)
	set, err := s.run(stmt, stmt.Args)
	if err == nil {
		d.store.values = s.values
	}
	a := autocommit{session: s, once: once}
	a.finish(set, err)
	return set, err
}

func (a *autocommit) finish(set db.ResultSet, err error) {
	if a.once != nil {
		end := a.once.End(set, err)
		a.d.store.ledger[end.JobID] = *end
	}
}
