package sqlite

import (
	"context"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

var _ db.Preparer = (*Database)(nil)

// Prepare compiles the statement as a job's, on a connection that cannot write.
func (d *Database) Prepare(ctx context.Context, stmt *dialect.Compiled) error {
	return d.using(ctx, d.readers, func(c *session) *db.Error {
		mem := c.h.mem
		mem.job, mem.private = 1, 0
		defer func() { mem.job = 0 }()
		s, kept, failure := c.compiled(stmt.SQL)
		switch {
		case failure != nil:
			return placed(failure, stmt)
		case kept:
			s.reset()
		default:
			s.finalize()
		}
		return nil
	})
}
