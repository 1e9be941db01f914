package sqlite

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// playBatch runs the statement once for each row of arguments.
func (c *session) playBatch(ctx context.Context, s *stmt, batch dialect.Batch) (set db.ResultSet, failure *db.Error) {
	_, err := engine.EachOf(ctx, batch, func(row int64, args []dialect.Value) error {
		if failure := c.stopped(); failure != nil {
			return failure
		}
		one, failure := c.play(s, args)
		switch {
		case failure != nil:
			return failure.InRow(row)
		case one.Columns != nil:
			return engine.BatchWithRows()
		}
		set.RowsAffected += one.RowsAffected
		s.reset()
		return nil
	})
	if err != nil {
		return set, c.failed(err, running)
	}
	return set, nil
}
