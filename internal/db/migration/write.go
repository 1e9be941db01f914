package migration

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// precheck refuses what cannot be done before anything is created or waited for. What another session's migration
// is about to change is not judged.
func (r *run) precheck(ctx context.Context) (*Report, error) {
	s, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	r.unversioned = s.state.unversioned
	report := s.report(r.req.Action, r.outOfOrder())
	if _, err := r.target(s); err != nil {
		return report, err
	}
	holder, err := r.m.opts.Engine.Holder(ctx, r.session)
	if err != nil {
		return report, r.m.explain(ctx, err, nil)
	}
	report.describe(s, holder)
	if holder != "" {
		return report, nil
	}
	return report, r.refused(s)
}

// refused reports what keeps the action from being done in this state.
func (r *run) refused(s *survey) error {
	if r.req.Action == Repair || r.req.Action == Baseline {
		return nil // they look for themselves
	}
	if left := s.interrupted(); left != nil && !left.mends {
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationDirty, "%s", left.words)
	}
	faults := s.faults(r.outOfOrder() || r.req.Action == Down)
	if len(faults) > 0 {
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationRefused, "nothing was run: %s", firstOf(sortedFaults(faults)))
	}
	return nil
}

// open opens golang-migrate's driver. It waits for the session that has the lock of migrations, which the driver takes for a
// moment.
func (r *run) open(ctx context.Context) error {
	return r.wait(ctx, func() (bool, error) {
		if holder, err := r.m.opts.Engine.Holder(ctx, r.session); err != nil || holder != "" {
			return false, err
		}
		var err error
		r.versions, err = r.m.opts.Engine.Versions(ctx)
		if err != nil && r.m.explain(ctx, err, nil).Class == db.ClassTransient {
			return false, nil // another session has just taken the lock
		}
		return err == nil, err
	})
}

// locker is the session that has the lock of migrations.
func (r *run) locker() *sql.Conn {
	if r.m.opts.Engine.SQL().Renews {
		return r.historyConn
	}
	return r.session
}

// wait tries until it succeeds, with pauses in which nothing is open in the database: what waited there for the lock of
// migrations would be in the way of its holder.
func (r *run) wait(ctx context.Context, try func() (bool, error)) error {
	holder := ""
	for {
		ok, err := try()
		if err == nil && !ok {
			var who string
			if who, err = r.m.opts.Engine.Holder(ctx, r.session); who != "" {
				holder = who
			}
		}
		switch {
		case ok:
			return nil
		case err == nil:
			poll := r.m.opts.Poll
			select {
			case <-time.After(poll/2 + rand.N(poll)):
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			e := r.m.explain(ctx, err, nil)
			if e.Class == db.ClassTimeout && holder != "" {
				e.Code = contract.CodeMigrationLocked
				e.Message = "the time limit was reached while another session was migrating this database: " + holder + "; nothing was changed"
			}
			return e
		}
	}
}

// createHistory creates the table of the history where it is missing.
func (r *run) createHistory(ctx context.Context) error {
	there, err := has(ctx, r.session, r.m.opts.Engine.SQL().HasHistory)
	if err != nil || there {
		return err
	}
	texts := r.m.opts.Engine.SQL().CreateHistory
	return r.inTransaction(ctx, func() error {
		for _, text := range texts {
			if _, err := r.historyConn.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// inTransaction does something in the books, all of it or nothing.
func (r *run) inTransaction(ctx context.Context, do func() error) error {
	texts := r.m.opts.Engine.SQL()
	if _, err := r.historyConn.ExecContext(ctx, texts.Begin); err != nil {
		return err
	}
	if err := do(); err != nil {
		rollback(ctx, r.historyConn, texts.Rollback)
		return err
	}
	_, err := r.historyConn.ExecContext(ctx, texts.Commit)
	return err
}

func (r *run) exec(ctx context.Context, text string) error {
	_, err := r.session.ExecContext(ctx, text)
	return err
}

// rollback ends a transaction that must not take effect. Where it cannot, the session's end does.
func rollback(ctx context.Context, session *sql.Conn, text string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTimeout)
	defer cancel()
	_, _ = session.ExecContext(ctx, text)
}

// act does the action under the lock.
func (r *run) act(ctx context.Context) error {
	s, err := r.survey(ctx)
	if err != nil {
		return err
	}
	if last := s.state.last(); last != nil {
		r.first = last.id
		if r.unversioned && s.state.stored < 0 && !s.state.dirty { // the driver has made an empty table
			s.state.stored = s.current().Number
			if err := r.setVersion(ctx, s.current(), false); err != nil {
				return err
			}
		}
	}
	target, err := r.target(s)
	if err != nil {
		return err
	}
	if err := r.passed(s); err != nil {
		return err
	}
	switch r.req.Action {
	case Baseline:
		return r.baseline(ctx, s, target)
	case Repair:
		return r.repair(ctx, s, target)
	default:
		if s, err = r.resolveInterrupted(ctx, s); err != nil {
			return err
		}
		if err := r.refused(s); err != nil {
			return err
		}
		steps, faults := r.steps(s, target)
		if len(faults) > 0 {
			r.faults = faults
			return db.Errorf(db.ClassPermanent, contract.CodeMigrationRefused, "nothing was run: %s", firstOf(faults))
		}
		for i := range steps {
			if err := r.apply(ctx, &steps[i], i, len(steps)); err != nil {
				return err
			}
		}
		return nil
	}
}

// passed refuses what would undo the work of others: this job started before, in a delivery that died, and others have
// migrated since. Up goes only forward and does no harm.
func (r *run) passed(s *survey) error {
	if r.req.Message == "" || r.req.Action == Up {
		return nil
	}
	started := false
	for i := range s.state.history {
		rec := &s.state.history[i]
		switch {
		case rec.message == r.req.Message:
			started = true
		case started:
			return db.Errorf(db.ClassPermanent, contract.CodeMigrationPassed, "this job started in an earlier delivery, and other jobs have migrated the database "+
				"since (now at version %s): nothing was run now; its earlier effects are listed", s.current().Label)
		}
	}
	return nil
}

// resolveInterrupted goes on from what an interrupted migration has left, where that is known for certain.
func (r *run) resolveInterrupted(ctx context.Context, s *survey) (*survey, error) {
	left := s.interrupted()
	if left == nil || !left.mends {
		return s, nil
	}
	if left.record.state == running {
		if err := r.mark(ctx, r.historyConn, left.record.id, left.record.failure()); err != nil {
			return nil, err
		}
	}
	if s.state.dirty {
		if err := r.setVersion(ctx, s.current(), false); err != nil {
			return nil, err
		}
	}
	r.notes = append(r.notes, left.words)
	return r.survey(ctx)
}

func (r *run) steps(s *survey, target Version) ([]step, []Fault) {
	forward := target.Number >= s.current().Number
	switch {
	case r.req.Action == Up, r.req.Action == Plan && r.req.Target == "", r.req.Action != Down && forward:
		return s.upSteps(target), nil
	case forward:
		return nil, nil
	default:
		return s.downSteps(target)
	}
}

// outcome describes the database after the action, also when its time is over.
func (r *run) outcome(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTimeout)
	defer cancel()
	s, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	report := s.report(r.req.Action, r.outOfOrder())
	report.Notes, report.Faults = r.notes, append(report.Faults, r.faults...)
	report.describe(s, "")
	report.Before = r.before(s)
	for i := range s.state.history {
		if rec := &s.state.history[i]; r.own(rec) {
			report.Changes = append(report.Changes, change(rec))
		}
	}
	return report, nil
}

// own reports whether a record is of this action: of its job, in whichever delivery, or written since it started.
func (r *run) own(rec *record) bool {
	return rec.id > r.first || r.req.Message != "" && rec.message == r.req.Message
}

// before is the version that the database was at before this action's first record.
func (r *run) before(s *survey) Version {
	earlier := *s.state
	for i := range s.state.history {
		if r.own(&s.state.history[i]) {
			earlier.history = s.state.history[:i]
			break
		}
	}
	if len(earlier.history) == 0 && len(s.state.history) > 0 {
		return None()
	}
	return newSurvey(s.engine, s.folder, &earlier).current()
}

// note inserts a record of this action and returns its id.
func (r *run) note(ctx context.Context, rec *record) (int64, error) {
	var id int64
	err := r.historyConn.QueryRowContext(ctx, r.m.opts.Engine.SQL().Note, rec.version.Number, rec.version.Label, rec.file, string(rec.dir),
		rec.sha256, rec.mode, string(rec.state), rec.statements, rec.statement, r.m.opts.Runner, r.req.Job, r.req.Message, 0).Scan(&id)
	return id, err
}

// mark is what changes of a record.
type mark struct {
	state     recordState
	mode      string
	statement int
	took      time.Duration
}

// failure is the mark of a record that came to no good end, with all else as it is.
func (rec *record) failure() mark {
	return mark{state: failed, mode: rec.mode, statement: rec.statement}
}

// mark changes a record. What is marked inside of a file's transaction is marked in its session.
func (r *run) mark(ctx context.Context, session *sql.Conn, id int64, m mark) error {
	_, err := session.ExecContext(ctx, r.m.opts.Engine.SQL().Mark, string(m.state), m.mode, m.statement, m.took.Milliseconds(), id)
	return err
}

// setVersion sets golang-migrate's version.
func (r *run) setVersion(ctx context.Context, v Version, dirty bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*ownTimeout)
	defer cancel()
	if err := r.versions.Set(ctx, v.Number, dirty); err != nil {
		return fmt.Errorf("set the version: %w", err)
	}
	return nil
}
