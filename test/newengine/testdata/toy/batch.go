package toy

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// all runs a statement once, or for each row of its batch.
func (s *session) all(ctx context.Context, stmt *dialect.Compiled) (set db.ResultSet, err error) {
	if stmt.Batch == nil {
		return s.run(stmt, stmt.Args)
	}
	_, err = engine.EachOf(ctx, stmt.Batch, func(row int64, args []dialect.Value) error {
		one, err := s.run(stmt, args)
		if one.Columns != nil {
			return engine.BatchWithRows()
		}
		set.RowsAffected += one.RowsAffected
		return err
	})
	return set, err
}
