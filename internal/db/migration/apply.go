package migration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// apply runs one file. Each line of it may be the last one of this process:
//
//	note   — nothing has happened; the record reports that the file was started
//	dirty  — golang-migrate's own users see that something is under way
//	run    — in one transaction with the mark that it is done, or statement by statement, each one marked before
//	clean  — the version is set
//
// What the next one finds, interrupted() reads.
func (r *run) apply(ctx context.Context, st *step, i, of int) error {
	file := st.script()
	if ok, err := r.m.opts.Engine.TryLock(ctx, r.locker()); err != nil || !ok {
		// A file has released the lock.
		if err != nil {
			return r.m.explain(ctx, err, nil)
		}
		return db.Errorf(db.ClassPermanent, contract.CodeMigrationLocked, "the session lost the migration lock: a file must have released it")
	}
	p := Progress{
		Action: r.req.Action, Version: st.file.Version, File: file.Name, Index: i + 1, Of: of, Statements: len(file.Parts),
		StartedAt: r.startedAt, FileAt: time.Now(),
	}
	id, err := r.note(ctx, &record{
		version: st.file.Version, file: file.Name, dir: st.dir, sha256: file.SHA256, mode: file.mode(), state: running, statements: len(file.Parts),
	})
	if err != nil {
		return r.at(ctx, err, file, -1)
	}
	crash.At("migration_noted")
	if err := r.setVersion(ctx, st.after, true); err != nil {
		return r.at(ctx, err, file, -1)
	}
	crash.At("migration_dirty")
	if file.Stepwise {
		err = r.stepwise(ctx, st, id, p)
	} else {
		err = r.whole(ctx, st, id, p)
	}
	if err != nil {
		return err
	}
	crash.At("migration_applied")
	if err := r.reset(ctx); err != nil {
		return r.at(ctx, err, file, -1)
	}
	if err := r.setVersion(ctx, st.after, false); err != nil {
		return r.at(ctx, err, file, -1)
	}
	return nil
}

func (f *File) mode() string {
	if f.Stepwise {
		return modeStepwise
	}
	return modeWhole
}

// reportProgress reports where the migration is.
func (r *run) reportProgress(p Progress) {
	if r.req.Progress != nil {
		r.req.Progress(p)
	}
}

// whole runs a file in one transaction, together with the mark that it is done.
func (r *run) whole(ctx context.Context, st *step, id int64, p Progress) error {
	file := st.script()
	at, err := r.transaction(ctx, file, id, p)
	if err == nil {
		return nil
	}
	failure := r.at(ctx, err, file, at)
	if failure.Class == db.ClassUnknown || failure.Class == db.ClassLost {
		return failure // the next one reads what became of it
	}
	rollback(ctx, r.session, r.m.opts.Engine.SQL().Rollback)
	if errors.Is(err, ErrEnded) {
		r.undone(ctx, nil, id, mark{failed, modeStepwise, len(file.Parts), time.Since(p.FileAt)})
		failure.Message += "; see the status"
		return failure
	}
	r.undone(ctx, st, id, mark{failed, modeWhole, 0, time.Since(p.FileAt)})
	failure.Message += "; nothing of this file is applied"
	return failure
}

// transaction runs a file in a transaction. With an error it returns the index of the part that failed, -1 if none did.
func (r *run) transaction(ctx context.Context, file *File, id int64, p Progress) (int, error) {
	sql := r.m.opts.Engine.SQL()
	if err := r.m.opts.Engine.Prepare(ctx, r.session, file); err != nil {
		return -1, err
	}
	if err := r.exec(ctx, sql.Begin); err != nil {
		return -1, err
	}
	check, err := r.m.opts.Engine.AfterBegin(ctx, r.session, file)
	if err != nil {
		return -1, err
	}
	for i := range file.Parts {
		p.Statement = i + 1
		r.reportProgress(p)
		if err := r.part(ctx, &file.Parts[i]); err != nil {
			return i, err
		}
		crash.At("migration_statement")
	}
	if check != nil {
		if err := check(ctx); err != nil {
			return -1, err
		}
	}
	if err := r.m.opts.Engine.Verify(ctx, r.session, file); err != nil {
		return -1, err
	}
	if err := r.mark(ctx, r.session, id, mark{done, modeWhole, len(file.Parts), time.Since(p.FileAt)}); err != nil {
		return -1, err
	}
	if err := r.exec(ctx, sql.Commit); err != nil {
		e := r.m.explain(ctx, err, nil)
		if !e.Answered() || e.Class == db.ClassCanceled || e.Class == db.ClassTimeout {
			return -1, db.Errorf(db.ClassUnknown, contract.CodeConnectionLost,
				"the connection was lost during COMMIT; it may have committed").Because(err)
		}
		return -1, e // COMMIT was refused
	}
	return -1, nil
}

func (r *run) part(ctx context.Context, part *dialect.Part) error {
	for range part.Times {
		if err := r.exec(ctx, part.SQL); err != nil {
			return err
		}
	}
	return nil
}

// stepwise runs a file that cannot run in a transaction. Before each statement the record reports that it is started.
func (r *run) stepwise(ctx context.Context, st *step, id int64, p Progress) error {
	file := st.script()
	if err := r.m.opts.Engine.Prepare(ctx, r.session, file); err != nil {
		return r.at(ctx, err, file, -1)
	}
	for i := range file.Parts {
		p.Statement = i + 1
		r.reportProgress(p)
		if err := r.mark(ctx, r.historyConn, id, mark{running, modeStepwise, i + 1, time.Since(p.FileAt)}); err != nil {
			return r.at(ctx, err, file, -1)
		}
		crash.At("migration_statement_begun")
		if err := r.part(ctx, &file.Parts[i]); err != nil {
			return r.stopped(ctx, st, id, p, err)
		}
		crash.At("migration_statement")
	}
	if err := r.m.opts.Engine.Verify(ctx, r.session, file); err != nil {
		return r.stopped(ctx, st, id, p, err)
	}
	if err := r.mark(ctx, r.historyConn, id, mark{done, modeStepwise, len(file.Parts), time.Since(p.FileAt)}); err != nil {
		return r.at(ctx, err, file, -1)
	}
	return nil
}

// stopped ends a file whose statement failed. What stands before that statement stays; where nothing does, the
// version is as it was.
func (r *run) stopped(ctx context.Context, st *step, id int64, p Progress, err error) error {
	file := st.script()
	part := &file.Parts[p.Statement-1]
	failure := r.at(ctx, err, file, p.Statement-1)
	if !failure.Answered() {
		failure.Class = db.ClassPermanent // started again, it would only find that it has to be repaired
		failure.Message += "; this statement may have taken effect; see the status"
		return failure
	}
	if failure.Class != db.ClassTimeout && failure.Class != db.ClassCanceled {
		failure.Class = db.ClassPermanent // what has left traces is not run again
	}
	rest := part.PartialEffects(r.m.opts.Engine.Dialect())
	if p.Statement == 1 && part.Times == 1 && rest == "" {
		r.undone(ctx, st, id, mark{failed, modeStepwise, 0, time.Since(p.FileAt)})
		failure.Message += "; nothing of this file is applied"
		return failure
	}
	r.undone(ctx, nil, id, mark{failed, modeStepwise, p.Statement, time.Since(p.FileAt)})
	if p.Statement > 1 {
		failure.Message += fmt.Sprintf("; the file cannot run in a transaction, and its %s applied", spanOf(p.Statement-1))
	}
	if rest != "" {
		failure.Message += "; it may have left " + rest
	}
	failure.Message += "; see the status"
	return failure
}

// undone marks a file as failed and clears the version that was set for it; without a
// step the version stays dirty. Where it cannot, the record reports that the file was started, and the next one reads it so.
func (r *run) undone(ctx context.Context, st *step, id int64, m mark) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTimeout)
	defer cancel()
	_ = r.reset(ctx)
	if err := r.mark(ctx, r.historyConn, id, m); err != nil || st == nil {
		return
	}
	_ = r.setVersion(ctx, st.before, false)
}

// reset undoes what a file has set in its session, or replaces the session.
func (r *run) reset(ctx context.Context) error {
	texts := r.m.opts.Engine.SQL()
	if !texts.Renews {
		for _, text := range texts.Reset {
			if err := r.exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
	discard(r.session) // first: it may keep the database locked
	next, err := r.m.writePool.Conn(ctx)
	if err != nil {
		return err
	}
	r.session = next
	return nil
}

// at returns an error with its file and the statement of this index; -1: none of its statements.
func (r *run) at(ctx context.Context, err error, file *File, index int) *db.Error {
	var part *dialect.Part
	if index >= 0 {
		part = &file.Parts[index]
	}
	e := *r.m.explain(ctx, err, part)
	where := file.Name
	if part != nil {
		line := part.Line
		if l, ok := errors.AsType[*lineError](e.Err); ok {
			line += l.line
		}
		where = fmt.Sprintf("%s, line %d", file.Name, line)
		if len(file.Parts) > 1 {
			where = fmt.Sprintf("%s, statement %d of %d (line %d)", file.Name, index+1, len(file.Parts), line)
		}
	}
	e.Message = where + ": " + e.Message
	return &e
}

// lineError carries the line of a part that an error is about, from 0.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// AtLine is the line of a part, from 0, at which an error is. Engines whose server reports it wrap the cause.
func AtLine(err error, line int) error { return &lineError{line: line, err: err} }
