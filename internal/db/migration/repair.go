package migration

import (
	"context"
	"fmt"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// baseline adopts a database that another tool has migrated, or none: the files up to the target count as applied.
func (r *run) baseline(ctx context.Context, s *survey, target Version) error {
	stored, current := s.storedVersion(), s.current()
	switch {
	case target.IsNone():
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationTarget, "baseline needs the database's current version")
	case s.state.dirty:
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationDirty, "%s", s.foreign().words)
	case len(s.applied) > 0 && current != target:
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationRefused, "the database has a history of its own, and is at version %s: baseline adopts "+
			"one that has none; use repair where the history is wrong", current.Label)
	case len(s.applied) == 0 && !stored.IsNone() && stored != target:
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationRefused, "another tool says that the database is at version %s: adopt it with that target, "+
			"or use repair if that is wrong", stored.Label)
	}
	if err := r.declare(ctx, s, target); err != nil {
		return err
	}
	r.notes = append(r.notes, fmt.Sprintf("adopted at version %s", target.Label))
	return nil
}

// repair makes a version true: the files up to it count as applied with their text of today, all others do not.
func (r *run) repair(ctx context.Context, s *survey, target Version) error {
	if left := s.interrupted(); left != nil {
		r.notes = append(r.notes, left.words)
		if left.record != nil && left.record.state == running {
			if err := r.mark(ctx, r.historyConn, left.record.id, left.record.failure()); err != nil {
				return r.m.explain(ctx, err, nil)
			}
		}
	}
	for _, f := range s.faults(true) {
		r.notes = append(r.notes, f.String())
	}
	if err := r.declare(ctx, s, target); err != nil {
		return err
	}
	r.notes = append(r.notes, fmt.Sprintf("the version is %s now", target.Label))
	return nil
}

// declare writes what is to count as applied, in one transaction, and then sets the version. Nothing is written for
// what is recorded so already.
func (r *run) declare(ctx context.Context, s *survey, target Version) error {
	var err error
	if records := s.declaration(target); len(records) > 0 {
		err = r.inTransaction(ctx, func() error {
			for i := range records {
				id, err := r.note(ctx, &records[i])
				if err == nil {
					err = r.mark(ctx, r.historyConn, id, mark{state: done, mode: modeWhole})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = r.setVersion(ctx, target, false)
	}
	if err != nil {
		return r.m.explain(ctx, err, nil)
	}
	return nil
}

// declaration is what the history lacks for a version to be true.
func (s *survey) declaration(target Version) (out []record) {
	for _, label := range s.labels() {
		r := s.applied[label]
		if s.file(label) == nil || target.IsNone() || compareLabels(label, target.Label) > 0 {
			out = append(out, record{version: r.version, file: r.file, dir: forget, sha256: r.sha256, mode: modeWhole, state: running})
		}
	}
	for _, f := range s.folder.Files {
		if target.IsNone() || f.Version.Number > target.Number {
			break
		}
		if r := s.applied[f.Version.Label]; r == nil || r.sha256 != f.SHA256 {
			out = append(out, record{version: f.Version, file: f.Name, dir: adopt, sha256: f.SHA256, mode: modeWhole, state: running})
		}
	}
	return out
}
