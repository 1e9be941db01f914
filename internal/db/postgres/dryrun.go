package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/internal/db"
)

// finish commits the transaction with its ledger row, if any. A dry run does what was deferred to COMMIT, fails as COMMIT
// would, and is rolled back. That answer is not waited for: if ROLLBACK cannot be sent, the session ends, and the transaction
// with it.
func (t *transaction) finish(ctx context.Context, entry *db.Entry) error {
	if !t.tx.DryRun {
		return t.commit(ctx, entry)
	}
	_, err := t.query("SET CONSTRAINTS ALL IMMEDIATE")
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && !fatal(pg) {
		err = t.ended(ctx, t.d.serverError(pg, "", -1))
	} else if err != nil {
		err = t.ownError(ctx, err)
	}
	t.rollback()
	return err
}
