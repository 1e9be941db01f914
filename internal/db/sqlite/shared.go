package sqlite

import (
	"context"

	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/sharing"
)

// sharedRunner runs transactions that may share a commit.
type sharedRunner struct{ d *Database }

// Alone runs a transaction by itself.
func (r sharedRunner) Alone(ctx context.Context, m *sharing.Member) ([]db.ResultSet, error) {
	c, err := beginOn(ctx, r.d, m.Call)
	if err != nil {
		return nil, err
	}
	defer r.d.writers.release(c)
	return transact(ctx, r.d, c, m.Call, m.Tx, m.Opts, m.Seal)
}

// Lead runs a group: a transaction with a savepoint for each of its members. Unless it commits, nothing of it is kept.
func (r sharedRunner) Lead(ctx context.Context, own *sharing.Member, gather func(cut func()) []*sharing.Member) error {
	c, err := beginOn(ctx, r.d, own.Call)
	if err != nil {
		return err
	}
	defer r.d.writers.release(c)
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	members := sharing.Started(gather(cut))
	if len(members) == 1 {
		own.Finish(transact(ctx, r.d, c, own.Call, own.Tx, own.Opts, own.Seal))
		return nil
	}
	limit := sharing.Earliest(members)
	defer c.arm(ctx, limit)()
	defer c.end()
	if limit > 0 { // of the seals
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	r.transactShared(ctx, c, members)
	return nil
}

// sharedEnd is a member of a group that has succeeded so far.
type sharedEnd struct {
	*sharing.Member
	sets []db.ResultSet
}

// transactShared runs the members of a group and commits those that succeed. Any end of the group but that leaves them to be run by
// themselves.
func (r sharedRunner) transactShared(ctx context.Context, c *session, members []*sharing.Member) {
	if c.begin() != nil {
		return
	}
	var good []sharedEnd
	over := false
	for _, m := range members {
		t := transaction{session: c, d: r.d, tx: m.Tx, opts: m.Opts.InMemory()}
		ok := false
		if ok, over = t.part(ctx, m); over {
			break
		}
		if ok {
			good = append(good, sharedEnd{m, t.sets})
		}
	}
	failure := db.Errorf(db.ClassCanceled, db.CodeCanceled, "the group is over")
	if !over && len(good) > 0 {
		crash.At("shared_sealed")
		failure = r.commitShared(c, good)
	}
	if failure == nil {
		crash.At("shared_committed")
	}
	for _, m := range good {
		switch {
		case failure == nil:
			m.Finish(m.sets, nil)
			continue
		case failure.Class == db.ClassUnknown:
			m.Finish(nil, failure)
		}
		free(m.sets)
	}
}

// part runs a member of a group behind a savepoint, to which it is rolled back unless it succeeds. over: so is the group.
func (t *transaction) part(ctx context.Context, m *sharing.Member) (ok, over bool) {
	if t.run(setSavepoint) != nil {
		return false, true
	}
	t.h.forgetRowID()
	failure := t.statements(ctx)
	unresolved, err := t.h.deferredKeys() // a neighbor's row must not make good what COMMIT would refuse
	ok = failure == nil && err == nil && !unresolved && m.Sealed(ctx, t.sets)
	// What a job leaves in the connection, the next one would see. A statement may end the transaction, and so may SQLite.
	if t.spoilt || t.stopped() != nil || !t.h.inTransaction() {
		ok, over = false, true
	}
	if !ok {
		free(t.sets)
		over = over || t.run(backToSavepoint) != nil
	}
	return ok, over || t.run(releaseSavepoint) != nil
}

// commitShared writes the ledger rows of a group, in the order of their keys, and commits.
func (r sharedRunner) commitShared(c *session, good []sharedEnd) *db.Error {
	members := make([]*sharing.Member, 0, len(good))
	for _, m := range good {
		members = append(members, m.Member)
	}
	for _, entry := range sharing.Entries(members) {
		if failure := r.d.fence(c, entry); failure != nil {
			return failure
		}
	}
	return c.commit()
}

func free(sets []db.ResultSet) {
	for i := range sets {
		sets[i].Free()
	}
}
