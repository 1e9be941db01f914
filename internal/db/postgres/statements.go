package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// sent is one statement of a job under way.
type sent struct {
	*prepared
	sql  string
	oids []uint32 // of the parameters, nil if all are inferred

	origin *dialect.Origin // of sql
	args   []dialect.Value

	named       bool // sent under its name, so that it can vanish or go stale
	askedParse  bool
	askedDetail bool // its columns come with the answer
}

// outcome is the result of the statements of a round trip.
type outcome struct {
	sets   []db.ResultSet
	failed *pgconn.PgError // what the server refused
	refuse *db.Error       // what we refused: caps, duplicate columns, COPY
	at     int             // index of the statement that failed, -1 if it is none of the job's

	ours func(row []byte) // takes the rows of commands of ours; nil: they are dropped

	binding bool // it failed before it was bound: at a parameter, or before them
}

func (o *outcome) ok() bool { return o.failed == nil && o.refuse == nil }

// keepSmall is up to which size rows find room without being expected, bytes.
const keepSmall = 2 << 10

// drainLimit is how much of a refused result is read on, so that the session can be kept. Beyond it the
// statement is cancelled and the session with it.
const drainLimit = 256 << 10

// appendStatement appends everything that runs one statement of a job.
func (s *session) appendStatement(stmt *dialect.Compiled, named bool) error {
	oids, types := s.typesOf(stmt.Args)
	if err := resolved(stmt.Args, oids); err != nil {
		return err
	}
	sql, origin := castSQL(s.dialect, stmt)
	p, use := s.statement.get(sql, types, named)
	next := sent{prepared: p, sql: sql, oids: oids, named: use, origin: origin, args: stmt.Args}
	name := ""
	if use {
		name = p.name
	}
	if !use || !p.parsed {
		s.buf = appendParse(s.buf, name, sql, oids)
		next.askedParse = true
		p.parsed = use
	}
	if !use || !p.described {
		s.buf = appendDescribe(s.buf, name)
		next.askedDetail = true
		p.described = use
	}
	var at int
	s.buf, at = appendBindHead(s.buf, name, len(stmt.Args))
	for i := range stmt.Args {
		var err error
		if s.buf, err = s.appendParam(s.buf, &stmt.Args[i]); err != nil {
			// Name the parameter: nothing was sent yet.
			if e, ok := errors.AsType[*db.Error](err); ok {
				e.Message = "parameter " + origin.Param(i+1) + ": " + e.Message
			}
			return err
		}
	}
	s.buf = endBind(s.buf, at)
	s.buf = appendExecute(s.buf)
	s.sent = append(s.sent, next)
	return nil
}

// statements reads the answers of a segment: commands of ours first, whose rows are dropped, then the
// statements in s.sent. err means that the answer did not come to its end, or came out of order.
func (s *session) statements(ours int, out *outcome) error {
	r := reader{s: s, out: out, next: -ours}
	err := r.run()
	s.forgetUnsent()
	if out.refuse == nil && out.failed == nil {
		out.at = -1
	}
	return err
}

// reader takes the answers of one segment apart.
type reader struct {
	s       *session
	out     *outcome
	next    int  // the statement whose answer is being read; below zero: commands of ours
	rows    bool // the encoder was started for it
	drained int  // bytes read since we refused
	whole   bool // the answer is read to its end, whatever we refuse: nothing takes the statement back

	chained       bool   // between two statements is a command of ours that starts the next transaction
	bound         bool   // the parameters of the statement are taken
	between       bool   // that command's answer is due
	unexpectedTag bool   // it was another command that answered
	each          func() // called when a statement is complete; may be nil
}

func (r *reader) run() error {
	for {
		kind, body, err := r.s.receive()
		if err != nil {
			return err
		}
		switch kind {
		case msgRow:
			if err := r.row(body); err != nil {
				return err
			}
		case msgParsed:
			p := r.current()
			if p != nil {
				p.askedParse = false
			}
			if p == nil || p.named {
				r.s.statement.have++
			}
		case msgDescription:
			if err := r.describe(body); err != nil {
				return err
			}
		case msgNoData:
			if p := r.current(); p != nil {
				p.columns, p.kinds, p.askedDetail = nil, nil, false
			}
		case msgComplete:
			r.complete(tagOf(body))
		case msgEmpty:
			r.complete(nil)
		case msgError:
			e := errorOf(body)
			r.fail(e)
			if fatal(e) {
				return errEnded
			}
		case msgReady:
			if r.s.foreign && r.out.failed == nil {
				r.out.refuse, r.out.at = db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "a job cannot set client_encoding: jobs and results are UTF-8"), 0
			}
			return nil
		case msgParameters:
			if p := r.current(); p != nil {
				p.params = oidsOf(body)
			}
		case msgBound:
			r.bound = true
		case msgClosed:
			r.s.statement.have--
		default: // COPY … FROM STDIN or TO STDOUT
			if waitsForRows(kind) {
				_, _ = r.s.net.Write(copyFail()) // the session ends in any case
			}
			r.refuse(db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "COPY from STDIN or to STDOUT cannot be used in a job"))
			return errOutOfOrder
		}
	}
}

func (r *reader) current() *sent {
	if r.next < 0 || r.next >= len(r.s.sent) {
		return nil
	}
	return &r.s.sent[r.next]
}

// at is the index of the job's statement whose answer is being read, -1 if it is none of them: a command of ours, or what
// comes behind the end of the last statement.
func (r *reader) at() int {
	if r.between || r.current() == nil {
		return -1
	}
	return r.next
}

func (r *reader) fail(e *pgconn.PgError) {
	if r.out.failed == nil && r.out.refuse == nil {
		r.out.at = r.at()
	}
	if r.out.failed == nil {
		r.out.failed, r.out.binding = e, !r.bound && r.at() >= 0
	}
}

func (r *reader) refuse(e *db.Error) {
	if r.out.ok() {
		r.out.refuse, r.out.at = e, r.at()
	}
}

func (r *reader) describe(body []byte) error {
	p := r.current()
	if p == nil {
		return nil
	}
	var msg pgproto3.RowDescription
	if err := msg.Decode(body); err != nil {
		return errors.Join(errOutOfOrder, err)
	}
	p.askedDetail = false
	p.columns, p.kinds = r.s.columnsOf(&msg)
	return nil
}

func (r *reader) start(columns []contract.Column) {
	r.rows = true
	if p := r.current(); p.size > keepSmall {
		r.s.encoder.Expect(p.size + p.size/16)
	}
	if err := r.s.encoder.Start(columns); err != nil {
		r.refuse(engine.NotEncoded(err))
	}
}

func (r *reader) row(body []byte) error {
	p := r.current()
	if p == nil {
		if r.out.ours != nil {
			r.out.ours(body)
		}
		return nil
	}
	if !r.rows {
		r.start(p.columns)
	}
	if r.out.refuse == nil {
		err := r.s.encodeRow(p.columns, p.kinds, body)
		if errors.Is(err, errOutOfOrder) {
			return err
		}
		if err != nil {
			r.refuse(engine.NotEncoded(err))
		}
	}
	if r.out.refuse == nil {
		return nil
	}
	r.drained += len(body)
	if r.drained > drainLimit && !r.whole {
		return errOutOfOrder
	}
	return nil
}

func (r *reader) complete(tag []byte) {
	r.bound = false
	if r.between {
		// The end of a command between two statements. Under its name a job may have put something else.
		if commandTag(tag) != "ROLLBACK" {
			r.unexpectedTag = true
		}
		r.between = false
		return
	}
	p := r.current()
	if p == nil {
		r.next++
		return
	}
	var set db.ResultSet
	if p.columns != nil && !r.rows {
		r.start(p.columns)
	}
	if p.columns != nil && r.out.refuse == nil {
		var err error
		if set, err = r.s.encoder.Finish(); err != nil {
			r.refuse(engine.NotEncoded(err))
		}
		p.size = len(set.Rows)
	} else {
		set.RowsAffected = rowsAffected(tag)
	}
	set.Command = commandTag(tag)
	if endsTransaction(set.Command) {
		r.refuse(errTransactionEnded())
	}
	r.out.sets = append(r.out.sets, set)
	r.rows = false
	r.next++
	r.between = r.chained && r.next < len(r.s.sent)
	if r.each != nil && !r.unexpectedTag {
		r.each()
	}
}

// stale reports whether a statement that was sent under its name failed because the session no longer has it
// as it was: its tables have changed, or a job dropped it or took its name.
func (l *lease) stale(o *outcome) bool {
	if o.failed == nil || o.at < 0 {
		return false
	}
	at := &l.sent[o.at]
	switch o.failed.Code {
	case "0A000":
		return at.named
	case "26000", "42P05":
		l.retire = l.retire || at.named
		return at.named
	case "42704", "XX000", "22P02", "42804", "42883": // a type of a parameter may have been created again, or its name is another's now
		if at.oids != nil && len(l.ownTypes) > 0 && (o.binding || o.failed.Code == "42704" || o.failed.Code == "XX000") {
			clear(l.ownTypes)
			return true
		}
	}
	return false
}

// forgetSent drops the round trip's statements from the cache.
func (s *session) forgetSent() {
	for i := range s.sent {
		s.statement.forget(s.sent[i].prepared)
	}
}

// rowsAffected reads the number at the end of a command tag.
func rowsAffected(tag []byte) int64 {
	var n, unit int64 = 0, 1
	for i := len(tag) - 1; i >= 0 && tag[i] >= '0' && tag[i] <= '9'; i-- {
		n += int64(tag[i]-'0') * unit
		unit *= 10
	}
	return n
}

// endsTransaction knows the tags of statements that jobs cannot have in them. The lexer refuses them by their
// first word; this is the second look.
func endsTransaction(tag string) bool {
	switch tag {
	case "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED",
		"SAVEPOINT", "RELEASE":
		return true
	}
	return false
}
