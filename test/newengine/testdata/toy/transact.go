package toy

import (
	"context"
	"errors"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// transaction is one Transact under way.
type transaction struct {
	*session

	tx   *db.Transaction
	sets []db.ResultSet
}

// Transact runs the statements, fences them with a ledger row and keeps the changes.
func (d *Database) Transact(
	ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	s, err := d.begin(ctx, &call)
	if err != nil {
		return nil, err
	}
	defer s.end()
	s.encoder.Reset(opts)
	t := transaction{session: s, tx: tx}
	if err := t.statements(ctx); err != nil {
		return nil, err
	}
	if seal != nil {
		entry, err := seal(ctx, t.sets)
		if err != nil {
			return nil, err
		}
		if entry != nil && !tx.DryRun && !d.store.insert(entry) {
			return nil, engine.AlreadyRecorded()
		}
	}
	if tx.DryRun {
		return t.sets, nil
	}
	d.store.values = s.values
	return t.sets, nil
}

func (t *transaction) statements(ctx context.Context) error {
	for i, stmt := range t.tx.Statements {
		set, err := t.all(ctx, stmt)
		if own, ok := errors.AsType[*db.Error](err); ok {
			return own.At(i)
		}
		if err != nil {
			return err
		}
		if failure := engine.CheckGuard(t.tx.Expect, i, set.RowsAffected); failure != nil {
			return failure
		}
		t.sets = append(t.sets, set)
	}
	return nil
}
