package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// lease is a session that a call has, with the bounds of the call.
type lease struct {
	*session
	d        *Database
	deadline time.Time
	retire   bool // the session works, but a job took names of ours in it
	over     bool // the call came to its end; if it did not, it panicked, and its session may be anywhere
}

// begin gets a session for a call and asks the call's last question. done gives the session back.
func (d *Database) begin(ctx context.Context, call *db.Call, opts db.RowOptions) (*lease, error) {
	return d.beginOn(ctx, nil, call, opts)
}

// beginOn is begin with a session that the previous leader left for the call; nil: one of the pool's.
func (d *Database) beginOn(ctx context.Context, s *session, call *db.Call, opts db.RowOptions) (*lease, error) {
	if s != nil && !s.settled() {
		s.markBroken(!s.unclean)
		d.release(s)
		s = nil
	}
	if s == nil {
		var err error
		if s, err = d.acquire(ctx); err != nil {
			return nil, err
		}
	}
	started := false
	defer func() {
		if !started {
			d.release(s)
		}
	}()
	if call.Begin != nil {
		if err := call.Begin(); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped before it started").
			Because(context.Cause(ctx))
	}
	l := &lease{session: s, d: d, deadline: time.Now().Add(call.Timeout)}
	if call.Timeout <= 0 {
		l.deadline = time.Time{}
	}
	s.encoder.Reset(opts)
	s.watch(ctx, l.deadline)
	started = true
	return l, nil
}

// afresh makes the session fit for a further attempt, in place of one whose prepared statements a job has changed. The
// attempt is bounded by what the call has left: what ended the one before may have bounds of its own.
func (l *lease) afresh(ctx context.Context, opts db.RowOptions) error {
	l.unwatch()
	if l.retire || !l.settled() {
		l.markBroken(!l.retire && !l.unclean)
		l.d.release(l.session)
		l.session, l.retire = nil, false
		wait := ctx
		if !l.deadline.IsZero() {
			var stop context.CancelFunc
			wait, stop = context.WithDeadline(ctx, l.deadline)
			defer stop()
		}
		s, err := l.d.acquire(wait)
		if err != nil && wait.Err() != nil && ctx.Err() == nil {
			return engine.TimeOver()
		}
		if err != nil {
			return err
		}
		l.session = s
	}
	l.encoder.Reset(opts)
	l.watch(ctx, l.deadline)
	return nil
}

// done gives the session back at the end of a call.
func (l *lease) done() {
	if l.session == nil { // it was lost between two attempts
		return
	}
	l.leave()
	l.d.release(l.session)
}

// leave ends the call's hold on the session, which may have to be ended as well.
func (l *lease) leave() {
	l.unwatch()
	switch {
	case !l.over:
		l.markBroken(true)
	case l.retire:
		l.markBroken(false)
	}
}

// messageSlack is what one row's message may be larger than the job's limit on encoded bytes. The text of
// bytea is longer than its base64 by half, hence the double.
const messageSlack = 64 << 10

// startRoundTrip empties the buffers for the first round trip of an attempt.
func (l *lease) startRoundTrip(opts db.RowOptions) {
	s := l.session
	s.buf = s.statement.appendCloses(s.buf[:0])
	clear(s.sent)
	s.sent, s.unnamed = s.sent[:0], s.unnamed[:0]
	limit := maxOwnAnswer
	if row := opts.LargestRow(); row > 0 && row < maxOwnAnswer {
		limit = int(2*row) + messageSlack
	}
	s.in.limit = limit
}

// appendBegin starts the transaction and returns how many commands of ours come before the job's.
func (l *lease) appendBegin(begin string, call *db.Call) int {
	ours := l.appendOurs(begin)
	if l.d.local != "" {
		ours += l.appendOurs(l.d.local)
	}
	return ours + appendLocal(l, call)
}

// appendLocal appends the settings of a call's transaction, and returns how many commands of ours that takes.
func appendLocal(l *lease, call *db.Call) (ours int) {
	if limit := call.Timeout; limit > 0 && limit != l.d.opts.Limits.StatementTimeout {
		ours += l.appendOurs("SET LOCAL statement_timeout = " + milliseconds(serverTimeout(limit)))
	}
	if l.d.settings.label && call.Label != "" {
		// Name the job in pg_stat_activity until the transaction ends.
		ours += l.appendOurs("SET LOCAL application_name = '" + sessionLabel(call.Label) + "'")
	}
	return ours
}

// appendOurs appends a command of ours, and returns how many that are: 1.
func (s *session) appendOurs(sql string) int {
	s.buf = appendCommand(s.buf, s.ends.name, sql)
	return 1
}

// appendStart starts the transaction and returns how many commands of ours come before the job's.
func (t *transaction) appendStart() int {
	ours := t.appendBegin(beginSQL(t.tx.Isolation), t.call)
	if t.before != nil {
		ours += t.appendOurs(writtenBefore)
	}
	return ours
}

func beginSQL(level db.Isolation) string {
	switch level {
	case db.ReadCommitted:
		return "BEGIN ISOLATION LEVEL READ COMMITTED"
	case db.RepeatableRead:
		return "BEGIN ISOLATION LEVEL REPEATABLE READ"
	case db.Serializable:
		return "BEGIN ISOLATION LEVEL SERIALIZABLE"
	case db.IsolationDefault:
	}
	return "BEGIN"
}

// sessionLabel is the name of a job's session.
func sessionLabel(label string) string {
	name := make([]byte, 0, maxApplicationName)
	name = append(name, "dbrunner:"...)
	for i := 0; i < len(label) && len(name) < maxApplicationName; i++ {
		if c := label[i]; nameByte(c, true) || c == '-' {
			name = append(name, c)
		}
	}
	return string(name)
}

// firstRoundTrip sends the buffer and reads the answers of the job's statements. The error is ready for the caller;
// after it the session is dead.
func (l *lease) firstRoundTrip(ctx context.Context, ours int, out *outcome) error {
	err := l.drain() // what an attempt or a read before left behind
	if err == nil && l.status != 'I' {
		err = errOutOfOrder
	}
	return l.answered(ctx, ours, out, err)
}

// answered sends the buffer unless that is pointless, and reads the answers.
func (l *lease) answered(ctx context.Context, ours int, out *outcome, err error) error {
	if err == nil {
		_, err = l.write()
	}
	return l.answers(ctx, ours, out, err)
}

// answers reads the answers to what was sent.
func (l *lease) answers(ctx context.Context, ours int, out *outcome, err error) error {
	if err == nil {
		err = l.statements(ours, out)
		if err == nil && out.ok() && len(out.sets) < len(l.sent) {
			err = errOutOfOrder // ready, and not all was done
		}
	} else {
		l.forgetUnsent()
	}
	if err == nil {
		return nil
	}
	if out.failed != nil && fatal(out.failed) {
		l.markBroken(false)
		l.d.lost()
		return l.failure(ctx, out)
	}
	l.abandon(err)
	if out.refuse != nil {
		return out.refuse.At(out.at)
	}
	return l.linkError(ctx, err)
}

// linkError is the error of an answer that the link cut off. When the server ended this connection, the pool forgets its idle ones.
func (l *lease) linkError(ctx context.Context, err error) error {
	if linkLost(err) {
		l.d.lost()
	}
	// The answer ended without an error of the server. The transaction is open or was not started: nothing is committed.
	var e *db.Error
	switch {
	case timedOut(err) && ctx.Err() != nil:
		e = engine.GivenUp(context.Cause(ctx))
	case timedOut(err):
		e = engine.TimeOver()
	case errors.Is(err, errTooLong):
		e = db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge, "one row alone is above the limit of bytes of this job").Because(err)
	case errors.Is(err, errOutOfOrder):
		e = db.Errorf(db.ClassPermanent, contract.CodeDatabase, "the server's answer could not be read").Because(err)
	case uncleaned(err):
		e = db.Errorf(db.ClassLost, contract.CodeConnectionLost, "the connection to the database was lost; nothing is committed").Because(err)
	default:
		e = engine.DriverError(err)
		e.Message += "; nothing is committed"
	}
	return e
}

// failure is the error that the server or we found in the statements.
func (l *lease) failure(ctx context.Context, out *outcome) *db.Error {
	if out.failed == nil {
		return out.refuse.At(out.at)
	}
	if out.refuse != nil && out.failed.Code == "25P02" {
		return out.refuse.At(out.at)
	}
	e := l.d.serverError(out.failed, "", out.at)
	if out.at >= 0 {
		// The error refers to the publisher's own text of the statement.
		of := &l.sent[out.at]
		sql, character := of.origin.Place(of.sql, int(out.failed.Position))
		message := explain(out.failed, placed(sql, character), "")
		if out.binding {
			message = explain(out.failed, placed(sql, character), l.parameterAt(out.failed, of))
		}
		e = l.d.shown(out.failed, message, out.at)
	}
	if e.EngineCode == "57014" && ctx.Err() != nil {
		e.Class, e.Code = db.ClassCanceled, db.CodeCanceled
	}
	return e
}

// ownError turns the error of a query of ours into the caller's.
func (l *lease) ownError(ctx context.Context, err error) error {
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if fatal(pg) {
			l.d.lost()
		}
		return l.d.serverError(pg, "", -1)
	}
	return l.linkError(ctx, err)
}

// forgetUnsent takes back what the cache believes of statements that were not sent.
func (s *session) forgetUnsent() {
	for i := range s.sent {
		p := &s.sent[i]
		if p.askedParse {
			p.parsed = false
		}
		if p.askedDetail {
			p.described = false
		}
	}
}

// undo sends what ends the transaction and cleans the session. Its answer is read before the session is used
// again; if it cannot be sent, the session ends, and the transaction with it.
func (l *lease) undo() {
	if !l.dead && l.clean(l.ends.undo.in(l.session)) != nil {
		l.markBroken(false)
	}
}
