package migration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// Options is what the migrations of one database need.
type Options struct {
	Engine Engine
	Source fs.FS  // the folder
	Where  string // the folder, as users know it
	Runner string // who migrates, for the history
	// OutOfOrder allows files below the current version to everybody; a request may allow it to itself.
	OutOfOrder bool
	// Poll is the pause between two trials to take the lock of migrations; 0: a fitting one.
	Poll time.Duration
}

// Migrator looks after the migrations of one database. Its methods may be called from many goroutines concurrently.
type Migrator struct {
	opts      Options
	readPool  *sql.DB // for what only looks
	writePool *sql.DB
}

const (
	defaultPoll = 500 * time.Millisecond
	// idleTime is how long a session without work is kept for the next look.
	idleTime = time.Minute
	// ownTimeout bounds what has to be done for a migration that was stopped.
	ownTimeout = 15 * time.Second
)

// New returns the migrator of one database. It connects to nothing. The owner calls Close.
func New(opts Options) (*Migrator, error) {
	if opts.Poll <= 0 {
		opts.Poll = defaultPoll
	}
	readPool, err := opts.Engine.Open(true)
	if err != nil {
		return nil, err
	}
	writePool, err := opts.Engine.Open(false)
	if err != nil {
		return nil, errors.Join(err, readPool.Close())
	}
	readPool.SetMaxIdleConns(1)
	readPool.SetConnMaxIdleTime(idleTime)
	return &Migrator{opts: opts, readPool: readPool, writePool: writePool}, nil
}

// Close ends all sessions. Nothing may be under way.
func (m *Migrator) Close() error { return errors.Join(m.readPool.Close(), m.writePool.Close()) }

// Separator is the word on the lines that stand between two texts of a file; empty where a semicolon ends each.
func (m *Migrator) Separator() string { return m.opts.Engine.Dialect().Separator }

// Folder reads the folder. Its error is a *db.Error; what is wrong with single files is in the faults.
func (m *Migrator) Folder() (*Folder, []Fault, error) {
	folder, err := Load(m.opts.Engine, m.opts.Source)
	if err == nil {
		return folder, nil, nil
	}
	if list, ok := errors.AsType[*FaultsError](err); ok {
		return nil, list.Faults, db.Errorf(db.ClassPermanent, contract.CodeMigrationFolder, "the migrations in %s cannot be used: %s",
			m.opts.Where, firstOf(list.Faults))
	}
	remedy := ""
	if errors.Is(err, fs.ErrNotExist) {
		remedy = "; create it (runner migrate new DATABASE DESCRIPTION) or set migrations.folder"
	}
	return nil, nil, db.Errorf(db.ClassPermanent, contract.CodeMigrationFolder, "the folder of migrations, %s, cannot be read: %s%s",
		m.opts.Where, err, remedy).Because(err)
}

// firstOf reports the first fault, and how many more there are.
func firstOf(faults []Fault) string {
	if len(faults) == 1 {
		return faults[0].String()
	}
	return fmt.Sprintf("%s (and %d more)", faults[0].String(), len(faults)-1)
}

// errTimeLimit is the cause of a context whose action has reached its time limit.
var errTimeLimit = errors.New("migration: time limit of the action")

// Run does what is asked. Its error is a *db.Error, or what Begin has returned; the report says all the same how the
// database stands and what was done, unless it could not be looked at.
func (m *Migrator) Run(ctx context.Context, req Request) (*Report, error) {
	folder, faults, err := m.Folder()
	if err != nil {
		return &Report{Action: req.Action, Before: None(), After: None(), Latest: None(), Faults: faults}, err
	}
	ctx, cancel := context.WithCancelCause(ctx) // without a deadline, which drivers take for a broken connection
	defer cancel(nil)
	if req.Timeout > 0 {
		defer time.AfterFunc(req.Timeout, func() { cancel(errTimeLimit) }).Stop()
	}
	if req.Action.Reads() {
		return m.look(ctx, &run{m: m, req: &req, folder: folder})
	}
	return m.work(ctx, &run{m: m, req: &req, folder: folder, startedAt: time.Now()})
}

func (m *Migrator) look(ctx context.Context, r *run) (_ *Report, err error) {
	if r.session, err = m.readPool.Conn(ctx); err != nil {
		return nil, m.explain(ctx, err, nil)
	}
	defer func() { _ = r.session.Close() }()
	if err := r.begin(); err != nil {
		return nil, err
	}
	s, err := r.survey(ctx)
	if err != nil {
		return nil, err
	}
	report := s.report(r.req.Action, r.outOfOrder())
	holder, err := r.m.opts.Engine.Holder(ctx, r.session)
	if err != nil {
		return nil, r.m.explain(ctx, err, nil)
	}
	report.describe(s, holder)
	if r.req.Action == Status {
		for i := range s.state.history {
			report.History = append(report.History, change(&s.state.history[i]))
		}
	}
	if r.req.Action == Plan {
		target, err := r.target(s)
		if err != nil {
			return report, err
		}
		steps, faults := r.steps(s, target)
		report.Plan, report.Faults = planned(steps), append(report.Faults, faults...)
	}
	return report, nil
}

func (m *Migrator) work(ctx context.Context, r *run) (_ *Report, err error) {
	if r.historyConn, err = m.writePool.Conn(ctx); err != nil {
		return nil, m.explain(ctx, err, nil)
	}
	defer discard(r.historyConn)
	if r.session, err = m.writePool.Conn(ctx); err != nil {
		return nil, m.explain(ctx, err, nil)
	}
	defer func() { discard(r.session) }() // the one that there is then
	// Everything takes place under the lock, the report included.
	report, err := r.precheck(ctx)
	if err != nil {
		return report, err
	}
	if err := r.open(ctx); err != nil {
		return report, err
	}
	defer func() { _ = r.versions.Close() }()
	if err := r.wait(ctx, func() (bool, error) { return r.m.opts.Engine.TryLock(ctx, r.locker()) }); err != nil {
		return report, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	if err := r.createHistory(ctx); err != nil {
		return report, r.m.explain(ctx, err, nil)
	}
	err = r.act(ctx)
	report, lookErr := r.outcome(ctx)
	if err == nil {
		err = lookErr
	}
	return report, err
}

// discard ends a session instead of keeping it.
func discard(session *sql.Conn) {
	_ = session.Raw(func(any) error { return driver.ErrBadConn })
	_ = session.Close()
}

// explain makes an error one that can be shown. What the context has ended says so, whatever the driver made of it.
func (m *Migrator) explain(ctx context.Context, err error, part *dialect.Part) *db.Error {
	e, ours := errors.AsType[*db.Error](err)
	if !ours {
		e = m.opts.Engine.Explain(err, part)
	}
	switch {
	case ctx.Err() == nil, e.Class == db.ClassUnknown:
		return e
	case errors.Is(context.Cause(ctx), errTimeLimit):
		return db.Errorf(db.ClassTimeout, contract.CodeTimeout, "the time limit was reached").Because(err)
	default:
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped").Because(context.Cause(ctx))
	}
}

// run is one action under way.
type run struct {
	m           *Migrator
	req         *Request
	folder      *Folder
	session     *sql.Conn // that runs the files, and has the lock unless the engine renews sessions
	historyConn *sql.Conn // that writes the history, whatever role and settings a file leaves its session with
	versions    Versions
	startedAt   time.Time
	first       int64 // id of the last record before this action
	notes       []string
	faults      []Fault // that the action itself has met
	unversioned bool    // golang-migrate's table was not there before its driver was opened
}

func (r *run) survey(ctx context.Context) (*survey, error) {
	state, err := readState(ctx, r.m.opts.Engine, r.session)
	if err != nil {
		return nil, r.m.explain(ctx, err, nil)
	}
	return newSurvey(r.m.opts.Engine, r.folder, state), nil
}

func (r *run) outOfOrder() bool { return r.req.OutOfOrder || r.m.opts.OutOfOrder }

// begin asks whether to go on.
func (r *run) begin() error {
	if r.req.Begin == nil {
		return nil
	}
	return r.req.Begin()
}

// describe adds what a migration that did not end is about: it runs, or it was interrupted.
func (rep *Report) describe(s *survey, holder string) {
	if holder != "" {
		rep.Running = &Running{Holder: holder}
		if last := s.state.last(); last != nil && last.state == running {
			rep.Running = &Running{
				File: last.file, Statement: last.statement, Statements: last.statements, Runner: last.runner, Job: last.job,
				Since: last.startedAt, Holder: holder,
			}
		}
		return
	}
	if left := s.interrupted(); left != nil {
		rep.Problem = left.words
	}
}

// target is the version that the action goes to: the latest where it names none.
func (r *run) target(s *survey) (Version, error) {
	if r.req.Target == "" {
		if r.req.Action.NeedsTarget() {
			return Version{}, db.Errorf(db.ClassPermanent, contract.CodeMigrationTarget, "%s needs a target: a version, or none", r.req.Action)
		}
		return s.folder.Latest(), nil
	}
	target, err := r.folder.resolve(r.req.Target)
	if err != nil {
		return Version{}, db.Errorf(db.ClassPermanent, contract.CodeMigrationTarget, "%s", err)
	}
	return target, nil
}
