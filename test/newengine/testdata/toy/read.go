package toy

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Read runs one statement and keeps nothing of it.
func (d *Database) Read(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	s, err := d.begin(ctx, &call)
	if err != nil {
		return db.ResultSet{}, err
	}
	defer s.end()
	s.encoder.Reset(opts)
	return s.run(stmt, stmt.Args)
}
