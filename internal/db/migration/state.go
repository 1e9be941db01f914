package migration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// state returns how a record of the history ended.
type recordState string

const (
	running recordState = "running" // started; where its transaction has not ended, or was rolled back, it stays so
	done    recordState = "done"
	failed  recordState = "failed"
)

// What a record of the history is about, besides the directions of files.
const (
	adopt  direction = "adopt"  // a version that counts as applied without having been run here
	forget direction = "forget" // a version that does not count as applied any more, without having been reverted
)

// How a file takes effect.
const (
	modeWhole    = "transaction"
	modeStepwise = "statements"
)

// record is one row of the history.
type record struct {
	id         int64
	version    Version
	file       string
	dir        direction
	sha256     string // empty if it is not known
	mode       string
	state      recordState
	statements int // that the file has
	statement  int // the last one that was started, from 1; 0: none
	runner     string
	job        string
	message    string // the job's message: an id may be used again
	startedAt  time.Time
	finishedAt time.Time // zero: it has not
	duration   time.Duration
}

// databaseState is what a database says of its migrations.
type databaseState struct {
	stored      int64 // golang-migrate's version, -1: none
	dirty       bool
	unversioned bool // there is no table of golang-migrate's where the login looks for it
	history     []record
}

// readState reads a database's state and creates nothing.
func readState(ctx context.Context, engine Engine, session *sql.Conn) (*databaseState, error) {
	s := &databaseState{stored: None().Number}
	texts := engine.SQL()
	there, err := has(ctx, session, texts.HasVersion)
	if s.unversioned = !there; err == nil && there {
		err = session.QueryRowContext(ctx, texts.Version).Scan(&s.stored, &s.dirty)
		if errors.Is(err, sql.ErrNoRows) {
			s.stored, err = None().Number, nil
		}
	}
	if err != nil {
		return nil, engine.Explain(err, nil)
	}
	there, err = has(ctx, session, texts.HasHistory)
	if err == nil && there {
		s.history, err = readHistory(ctx, session, texts.History)
	}
	if err != nil {
		return nil, engine.Explain(err, nil)
	}
	return s, nil
}

func has(ctx context.Context, session *sql.Conn, query string) (bool, error) {
	n := 0
	err := session.QueryRowContext(ctx, query).Scan(&n)
	return n != 0, err
}

func readHistory(ctx context.Context, session *sql.Conn, query string) (list []record, err error) {
	rows, err := session.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r record
		var startedAt string
		var finishedAt sql.NullString
		var milliseconds int64
		if err := rows.Scan(&r.id, &r.version.Number, &r.version.Label, &r.file, &r.dir, &r.sha256, &r.mode, &r.state, &r.statements,
			&r.statement, &r.runner, &r.job, &r.message, &startedAt, &finishedAt, &milliseconds); err != nil {
			return nil, err
		}
		r.duration = time.Duration(milliseconds) * time.Millisecond
		if r.startedAt, err = readTime(startedAt); err != nil {
			return nil, err
		}
		if finishedAt.Valid {
			if r.finishedAt, err = readTime(finishedAt.String); err != nil {
				return nil, err
			}
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// readTime reads a time of the history; services that speak an engine's protocol may have their own mark between day and
// time.
func readTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "T", 1))
	if err != nil {
		return t, db.Errorf(db.ClassPermanent, contract.CodeDatabase, "a time in the history of migrations cannot be read").Because(err)
	}
	return t, nil
}

// applied returns the versions that count as applied, by their labels, each with the record that says so.
func (s *databaseState) applied() map[string]*record {
	out := map[string]*record{}
	for i := range s.history {
		r := &s.history[i]
		if r.state != done {
			continue
		}
		switch r.dir {
		case up, adopt:
			out[r.version.Label] = r
		case down, forget:
			delete(out, r.version.Label)
		}
	}
	return out
}

// last is the last record, nil if there is none.
func (s *databaseState) last() *record {
	if len(s.history) == 0 {
		return nil
	}
	return &s.history[len(s.history)-1]
}
