package model

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// effect is a row that a job has written.
type effect struct {
	name     string // what the statement says
	jobID    string
	sequence uint64 // of the message that it is for; 0: not known
}

// server is the database: what is committed, and who has what locked.
type server struct {
	effects []effect
	rows    map[string]*db.Entry // the ledger
	keys    map[string]*session  // ledger keys inserted by transactions that are open
	locks   map[string]*session  // of jobs that are executed at most once
}

// session is what the server does for one call.
type session struct {
	s      *server
	work   []effect
	entry  *db.Entry // the row to be written with it; nil: none
	locked string    // the job whose lock it has
	loose  bool      // what it still does is left over
}

func newServer() *server {
	return &server{rows: map[string]*db.Entry{}, keys: map[string]*session{}, locks: map[string]*session{}}
}

// insert writes a ledger row that no other session sees before the end of the transaction. false: the key is not free.
func (c *session) insert() bool {
	if !c.free() {
		return false
	}
	c.s.keys[c.entry.JobID] = c
	return true
}

// free reports whether the key of the row is free or this session's own.
func (c *session) free() bool {
	holder := c.s.keys[c.entry.JobID]
	return c.s.rows[c.entry.JobID] == nil && (holder == nil || holder == c)
}

// waits reports whether an insert of the key would have to wait for another transaction.
func (c *session) waits() bool {
	holder := c.s.keys[c.entry.JobID]
	return holder != nil && holder != c
}

func (c *session) commit() {
	if c.entry != nil {
		c.s.rows[c.entry.JobID] = c.entry
	}
	c.s.effects = append(c.s.effects, c.work...)
	c.end()
}

// end rolls back what is not committed and gives every lock back.
func (c *session) end() {
	c.work = nil
	if c.entry != nil && c.s.keys[c.entry.JobID] == c {
		delete(c.s.keys, c.entry.JobID)
	}
	if c.locked != "" && c.s.locks[c.locked] == c {
		delete(c.s.locks, c.locked)
	}
}

// conclude writes an end over the row of a begin; false: there is none any more.
func (s *server) conclude(end *db.Entry) bool {
	row := s.rows[end.JobID]
	if row == nil || row.Status != db.StatusStarted || !row.SameMessage(end.Sequence, end.Timestamp) {
		return false
	}
	s.rows[end.JobID] = end
	return true
}

func copied(e *db.Entry) *db.Entry {
	if e == nil {
		return nil
	}
	c := *e
	c.RequestHash, c.Answer = bytes.Clone(e.RequestHash), bytes.Clone(e.Answer)
	return &c
}

// link is a runner's way to the database.
type link struct {
	db.Database // nil: whatever else there is, is not called

	r *runner
}

// Dialect is PostgreSQL's as far as these jobs need it.
func (*link) Dialect() *dialect.Dialect {
	return &dialect.Dialect{
		MaxParams: 10, Placeholder: func(dst []byte, n int) []byte { return strconv.AppendInt(append(dst, '$'), int64(n), 10) },
		ReadOnlyFirst: map[string]bool{"SELECT": true}, TransactionVerb: map[string]bool{"COMMIT": true},
	}
}

// failure returns what an option does that answers a call with an error, and ends its session.
func (c *session) failure(to *error, class db.Class, code contract.Code) func() {
	return func() {
		c.end()
		*to = db.Errorf(class, code, "made by the model")
	}
}

// cut is the option of a link that breaks: what the server does with the rest is seen later.
func (l *link) cut(c *session, to *error, class db.Class, rest *leftover) option {
	return option{"no answer", func() {
		if c.loose = rest != nil; !c.loose {
			c.end()
		}
		l.r.w.leave(rest)
		*to = db.Errorf(class, contract.CodeConnectionLost, "made by the model")
	}}
}

// gone is the error of a call whose caller does not wait any more.
func gone(err error) error {
	return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped").Because(err)
}

// connect waits for a connection and for the word of its caller.
func (l *link) connect(ctx context.Context, call *db.Call) error {
	var answer error
	err := l.r.await(ctx, "connection for "+call.Label, nil, func() []option {
		return []option{
			{"given", func() { answer = nil }},
			{"unreachable", func() { answer = db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "made by the model") }},
		}
	})
	switch {
	case err != nil:
		return gone(err)
	case answer != nil:
		return answer
	}
	return call.Begin()
}

// sent looks at the end of a call whose session has something locked. If no runner is left that could end it, neither its
// caller nor a leftover, the server does.
func (l *link) sent(c *session, err, answer error) error {
	if errors.Is(err, errDead) && !errors.Is(err, errLeft) {
		l.r.w.mu.Lock()
		defer l.r.w.mu.Unlock()
		if !c.loose {
			c.end()
		}
	}
	return either(err, answer)
}

// named is what a statement of these jobs writes: the text in quotes.
func named(stmt *dialect.Compiled) string {
	_, text, _ := strings.Cut(stmt.SQL, "'")
	name, _, _ := strings.Cut(text, "'")
	return name
}

// Transact runs the statements, then sends fence and COMMIT together: once they are sent, they cannot be taken back.
func (l *link) Transact(ctx context.Context, call db.Call, tx *db.Transaction, _ db.RowOptions, seal db.BeforeCommit) ([]db.ResultSet, error) {
	if err := l.connect(ctx, &call); err != nil {
		return nil, err
	}
	c := &session{s: l.r.w.server}
	for _, stmt := range tx.Statements {
		c.work = append(c.work, effect{name: named(stmt), jobID: call.Label})
	}
	if err := l.statements(ctx, &call, c); err != nil {
		return nil, err
	}
	sets := make([]db.ResultSet, len(c.work))
	for i := range sets {
		sets[i].RowsAffected = 1
	}
	if seal != nil {
		bounded, stop := context.WithTimeout(ctx, call.Timeout)
		entry, err := seal(bounded, sets)
		stop()
		if err != nil {
			return nil, err // nothing of it is seen by anybody
		}
		l.take(c, entry)
	}
	if ctx.Err() != nil {
		return nil, gone(context.Cause(ctx))
	}
	if err := l.commit(&call, c); err != nil {
		return nil, err
	}
	return sets, nil
}

func (l *link) take(c *session, entry *db.Entry) {
	l.r.w.mu.Lock()
	defer l.r.w.mu.Unlock()
	c.entry = copied(entry)
	for i := range c.work {
		c.work[i].sequence = entry.Sequence
	}
}

func (l *link) statements(ctx context.Context, call *db.Call, c *session) error {
	var answer error
	err := l.r.await(ctx, "statements of "+call.Label, nil, func() []option {
		return []option{
			{"done", func() { answer = nil }},
			{"refused", c.failure(&answer, db.ClassPermanent, contract.CodeCheck)},
			{"serialization failure", c.failure(&answer, db.ClassTransient, contract.CodeSerialization)},
			{"time is over", c.failure(&answer, db.ClassTimeout, contract.CodeTimeout)},
			l.cut(c, &answer, db.ClassLost, nil),
		}
	})
	if err != nil {
		return gone(err)
	}
	return answer
}

// commit is the second round trip: the row, whose key is the fence, and COMMIT.
func (l *link) commit(call *db.Call, c *session) error {
	var answer error
	rest := &leftover{name: "transaction of " + call.Label, options: func() []option {
		options := []option{{"committed", c.commit}, {"rolled back", c.end}}
		if c.entry != nil && !c.free() {
			options = options[1:]
		}
		return options
	}}
	if c.entry != nil {
		err := l.r.await(context.Background(), "fence of "+call.Label, rest, func() []option { return l.fence(c, &answer, rest) })
		if err := l.sent(c, err, answer); err != nil {
			return err
		}
	}
	err := l.r.await(context.Background(), "COMMIT of "+call.Label, rest, func() []option {
		return []option{
			{"answered", func() { c.commit(); answer = nil }},
			l.cut(c, &answer, db.ClassUnknown, rest),
			{"serialization failure", c.failure(&answer, db.ClassTransient, contract.CodeSerialization)},
			{"constraint", c.failure(&answer, db.ClassPermanent, contract.CodeCheck)},
		}
	})
	return l.sent(c, err, answer)
}

func (l *link) fence(c *session, answer *error, rest *leftover) []option {
	unanswered := l.cut(c, answer, db.ClassUnknown, rest)
	switch {
	case c.waits():
		return []option{{"lock not available", c.failure(answer, db.ClassTransient, contract.CodeLockTimeout)}, unanswered}
	case !c.free():
		return []option{{"taken", c.failure(answer, db.ClassAlreadyRecorded, contract.CodeUnique)}, unanswered}
	}
	return []option{{"inserted", func() { c.insert(); *answer = nil }}, unanswered}
}

// Read changes nothing.
func (l *link) Read(ctx context.Context, call db.Call, _ *dialect.Compiled, _ db.RowOptions) (db.ResultSet, error) {
	if err := l.connect(ctx, &call); err != nil {
		return db.ResultSet{}, err
	}
	if err := l.statements(ctx, &call, &session{s: l.r.w.server}); err != nil {
		return db.ResultSet{}, err
	}
	return db.ResultSet{Columns: []contract.Column{{Name: "n", Type: "integer"}}, Rows: []byte(`[{"n":1}]`), RowCount: 1}, nil
}

// Record inserts a row in a transaction of its own.
func (l *link) Record(ctx context.Context, entry *db.Entry) (*db.Entry, bool, error) {
	c := &session{s: l.r.w.server, entry: copied(entry)}
	var row *db.Entry
	var inserted bool
	var answer error
	rest := &leftover{name: "ledger row of " + entry.JobID, options: func() []option {
		options := []option{{"committed", c.commit}, {"rolled back", c.end}}
		if !c.free() {
			options = options[1:]
		}
		return options
	}}
	err := l.r.await(ctx, "record "+entry.JobID, rest, func() []option {
		unanswered := l.cut(c, &answer, db.ClassUnknown, rest)
		unreachable := option{"unreachable", c.failure(&answer, db.ClassUnavailable, contract.CodeUnavailable)}
		switch {
		case c.waits():
			return []option{{"lock not available", c.failure(&answer, db.ClassTransient, contract.CodeLockTimeout)}, unanswered, unreachable}
		case !c.free():
			return []option{{"is there", func() { row, inserted, answer = copied(c.s.rows[entry.JobID]), false, nil }}, unreachable}
		}
		return []option{
			{"inserted", func() { c.commit(); row, inserted, answer = copied(c.entry), true, nil }}, unanswered, unreachable,
		}
	})
	if err != nil {
		return nil, false, gone(err)
	}
	return row, inserted, answer
}

// Lookup reads committed rows without waiting.
func (l *link) Lookup(ctx context.Context, jobID string) (*db.Entry, error) {
	s := l.r.w.server
	var row *db.Entry
	var answer error
	err := l.r.await(ctx, "lookup "+jobID, nil, func() []option {
		return []option{
			{"answered", func() { row, answer = copied(s.rows[jobID]), nil }},
			{"no answer", func() { answer = db.Errorf(db.ClassLost, contract.CodeConnectionLost, "made by the model") }},
			{"unreachable", func() { answer = db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "made by the model") }},
		}
	})
	if err != nil {
		return nil, gone(err)
	}
	return row, answer
}

// Execute runs one statement outside of any transaction; with once, under the job's lock and after its row.
func (l *link) Execute(ctx context.Context, call db.Call, stmt *dialect.Compiled, _ db.RowOptions, once *db.Once) (db.ResultSet, error) {
	if err := l.connect(ctx, &call); err != nil {
		return db.ResultSet{}, err
	}
	c := &session{s: l.r.w.server, work: []effect{{name: named(stmt), jobID: call.Label}}}
	if once != nil {
		if err := l.begin(&call, c, once); err != nil {
			return db.ResultSet{}, err
		}
	}
	set := db.ResultSet{RowsAffected: 1, Command: "DONE"}
	err := l.alone(ctx, &call, c)
	if err != nil {
		set = db.ResultSet{}
	}
	if once == nil || db.ClassOf(err) == db.ClassUnknown || errors.Is(err, errDead) {
		return set, err
	}
	return set, either(l.finish(&call, c, copied(once.End(set, err))), err)
}

// begin takes the job's lock and commits the row of its begin.
func (l *link) begin(call *db.Call, c *session, once *db.Once) error {
	start := copied(once.Start)
	c.entry = start
	var answer error
	begin := func() {
		c.s.rows[start.JobID] = start
		c.s.locks[start.JobID], c.locked = c, start.JobID
		c.work[0].sequence = start.Sequence
		answer = nil
	}
	rest := &leftover{name: "begin of " + call.Label, options: func() []option {
		options := []option{{"committed", func() { begin(); c.end() }}, {"rolled back", c.end}}
		if !c.free() || c.s.locks[start.JobID] != nil {
			options = options[1:]
		}
		return options
	}}
	err := l.r.await(context.Background(), "begin of "+call.Label, rest, func() []option {
		switch {
		case c.s.locks[start.JobID] != nil:
			return []option{{"held", c.failure(&answer, db.ClassLocked, contract.CodeLockTimeout)}}
		case c.waits():
			return []option{
				{"lock not available", c.failure(&answer, db.ClassTransient, contract.CodeLockTimeout)},
				l.cut(c, &answer, db.ClassUnknown, rest),
			}
		case c.s.rows[start.JobID] != nil:
			return []option{{"taken", c.failure(&answer, db.ClassAlreadyRecorded, contract.CodeUnique)}}
		}
		return []option{
			{"on record", begin},
			l.cut(c, &answer, db.ClassUnknown, rest),
			{"refused", c.failure(&answer, db.ClassPermanent, contract.CodePermission)},
		}
	})
	return l.sent(c, err, answer)
}

// alone is the statement. When its caller's bounds are over, the server is asked to stop it, and has the last word.
func (l *link) alone(ctx context.Context, call *db.Call, c *session) error {
	var answer error
	done := func() { c.s.effects = append(c.s.effects, c.work...) }
	rest := &leftover{name: "statement of " + call.Label, options: func() []option {
		return []option{{"done", func() { done(); c.end() }}, {"stopped", c.end}}
	}}
	err := l.r.await(context.Background(), "statement of "+call.Label, rest, func() []option {
		options := []option{{"done", func() { done(); answer = nil }}}
		if ctx.Err() != nil {
			options = append(options, option{"stopped", func() {
				answer = db.Errorf(db.ClassCanceled, db.CodeCanceled, "made by the model")
			}})
		}
		return append(options,
			option{"refused", func() { answer = db.Errorf(db.ClassPermanent, contract.CodeCheck, "made by the model") }},
			option{"time is over", func() { answer = db.Errorf(db.ClassTimeout, contract.CodeTimeout, "made by the model") }},
			l.cut(c, &answer, db.ClassUnknown, rest))
	})
	return l.sent(c, err, answer)
}

// finish writes the row of the end and gives the lock back.
func (l *link) finish(call *db.Call, c *session, end *db.Entry) error {
	var answer error
	rest := &leftover{name: "end of " + call.Label, options: func() []option {
		return []option{{"written", func() { c.s.conclude(end); c.end() }}, {"not written", c.end}}
	}}
	err := l.r.await(context.Background(), "end of "+call.Label, rest, func() []option {
		return []option{
			{"answered", func() {
				answer = nil
				if !c.s.conclude(end) {
					answer = db.Errorf(db.ClassAlreadyRecorded, contract.CodeUnique, "made by the model")
				}
				c.end()
			}},
			l.cut(c, &answer, db.ClassUnknown, rest),
		}
	})
	return l.sent(c, err, answer)
}

// RecordEnd writes the end of a job that was started, unless another runner may be executing it.
func (l *link) RecordEnd(ctx context.Context, end *db.Entry, own bool) (*db.Entry, bool, error) {
	s := l.r.w.server
	end = copied(end)
	var row *db.Entry
	var written bool
	var answer error
	write := func() {
		if end.Status == string(contract.Unknown) && s.locks[end.JobID] != nil && own {
			l.r.w.problem("%s: ended unknown while it is executed", end.JobID)
		}
		written = (own || s.locks[end.JobID] == nil) && s.conclude(end)
		row, answer = copied(s.rows[end.JobID]), nil
	}
	err := l.r.await(ctx, "conclude "+end.JobID, nil, func() []option {
		return []option{
			{"answered", write},
			{"written without an answer", func() { write(); answer = db.Errorf(db.ClassUnknown, contract.CodeConnectionLost, "made by the model") }},
			{"no answer", func() { answer = db.Errorf(db.ClassUnknown, contract.CodeConnectionLost, "made by the model") }},
			{"unreachable", func() { answer = db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "made by the model") }},
		}
	})
	if err != nil {
		return nil, false, gone(err)
	}
	return row, written, answer
}
