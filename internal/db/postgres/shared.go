package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sharing"
)

// ledgerWait is how long the ledger rows of a group may wait for another transaction: one that has rows in another order would
// wait for this one in turn.
const ledgerWait = "50ms"

// betweenShared cleans the session between two transactions that share a commit, as far as a transaction may, and shows that
// nothing of the one before acts on the next. What it has deferred is done before, with its own role and settings. It is one simple
// query without values.
const betweenShared = "SELECT pg_catalog.int8div(1, (pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.=) 'UTF8')::pg_catalog.int4), NULL, NULL; " +
	"SET CONSTRAINTS ALL IMMEDIATE; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; DISCARD TEMP; DISCARD SEQUENCES; "

// lastChecked fails unless the session's prepared statements are the engine's own, and its only advisory lock is that of the group,
// which it gives back. A lock that is left may be a session's: it must last beyond COMMIT, and no other transaction of the group may
// have given it back.
func lastChecked(prepared, lock int64) string {
	const equals, integer = ` OPERATOR(pg_catalog.=) `, `::pg_catalog.int4`
	return `SELECT pg_catalog.int8div(1, (` +
		`(SELECT COALESCE(pg_catalog.sum(CASE WHEN name` + equals + `'` + ownName + `' THEN 0 WHEN from_sql THEN 1000000 ELSE 1 END), 0)` +
		` FROM pg_catalog.pg_prepared_statement())` + equals + strconv.FormatInt(prepared, 10) + ` AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_lock_status() WHERE locktype` + equals + `'advisory' AND pid` +
		equals + `pg_catalog.pg_backend_pid())` + equals + `1 AND pg_catalog.pg_advisory_unlock(` + strconv.FormatInt(lock, 10) + `))` + integer + `)`
}

// Alone runs a transaction by itself.
func (r sharedRunner) Alone(ctx context.Context, m *sharing.Member) ([]db.ResultSet, error) {
	l, err := r.d.begin(ctx, m.Call, m.Opts)
	if err != nil {
		return nil, err
	}
	defer l.done()
	return transact(ctx, l, m.Call, m.Tx, m.Opts, m.Seal)
}

// transact runs the statements in a transaction of their own.
func transact(
	ctx context.Context, l *lease, call *db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	t := transaction{lease: l, call: call, tx: tx, opts: opts, seal: seal, named: true}
	sets, err := t.attempt(ctx)
	for t.again { // once for the names, and once for the role
		t.again, t.named = false, false
		if err = l.afresh(ctx, opts); err == nil {
			sets, err = t.attempt(ctx)
		}
	}
	l.over = true
	return sets, err
}

// sharedRunner runs transactions of a database that may share a commit.
type sharedRunner struct{ d *Database }

// Lead runs a group on one session. Unless it commits, nothing of it is kept.
func (r sharedRunner) Lead(ctx context.Context, own *sharing.Member, gather func(cut func()) []*sharing.Member) error {
	l, err := r.d.begin(ctx, own.Call, own.Opts)
	if err != nil {
		return err
	}
	defer l.done()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	started := sharing.Started(gather(cut))
	if len(started) == 1 {
		own.Finish(transact(ctx, l, own.Call, own.Tx, own.Opts, own.Seal))
		return nil
	}
	l.unwatch()
	if l.deadline = (time.Time{}); sharing.Earliest(started) > 0 {
		l.deadline = time.Now().Add(sharing.Earliest(started))
	}
	l.watch(ctx, l.deadline)
	t := sharedCommit{transaction: transaction{lease: l, call: own.Call, tx: own.Tx, named: true}, name: "dbr_" + strings.ToLower(rand.Text())}
	t.run(ctx, started)
	l.over = true
	return nil
}

// sharedCommit is a group of transactions with one commit, each behind a savepoint of its own:
//
//	{BEGIN; SAVEPOINT a} {statements; clean; SAVEPOINT b} {statements; clean; SAVEPOINT c} … | {RELEASE c; b; a; check} {ledger rows, COMMIT} {clean-up}
//
// The first part is one round trip. Where a transaction fails, it and those behind it are rolled back to its savepoint, and those
// behind it are sent once more. Only success counts: what has failed is run by itself when the group is over, and every other
// surprise ends the group, of which nothing is kept then.
type sharedCommit struct {
	transaction // its session, and its commit

	name       string        // of savepoints, with a number; it cannot be guessed
	savepoints int           // made so far
	lock       int64         // the advisory lock of the group
	opening    string        // commands of ours that the next round sends first
	parts      []*sharedPart // those that have not run, or not for good
	good       []*sharedPart // those that will be committed
	open       []string      // savepoints: one for each of the good ones, and one for the next
}

// sharedPart is a transaction of a group.
type sharedPart struct {
	*sharing.Member
	savepoint int // before it, a place in sharedCommit.open

	sent    []sent
	ours    int // commands of ours before its statements
	after   int // and behind them, without those that clean the session
	out     outcome
	before  writtenRowsBefore
	written ownRows // rows of writtenNow
}

// run runs the group to its end.
func (t *sharedCommit) run(ctx context.Context, members []*sharing.Member) {
	for _, m := range members {
		// A type may have to be looked up, outside of the transaction.
		if err := t.resolve(m.Tx.Statements); err == nil {
			t.parts = append(t.parts, &sharedPart{Member: m})
		} else if t.dead {
			return
		}
	}
	ok := t.start()
	for ok && len(t.parts) > 0 {
		ok = t.round(ctx)
	}
	if ok && t.opening != "" && len(t.good) > 0 {
		ok = t.own()
	}
	if ok && len(t.good) > 0 && t.bounds(ctx) == nil {
		t.commitAll(ctx)
		return
	}
	t.giveUp()
}

// giveUp rolls the group back.
func (t *sharedCommit) giveUp() {
	for _, p := range t.good {
		p.free()
	}
	if !t.dead {
		t.rollback()
	}
}

func (p *sharedPart) free() {
	for i := range p.out.sets {
		p.out.sets[i].Free()
	}
	p.out = outcome{}
}

// start prepares the session for the transaction.
func (t *sharedCommit) start() bool {
	if t.drain() != nil || t.status != 'I' {
		t.markBroken(true)
		return false
	}
	var random [8]byte
	_, _ = rand.Read(random[:])
	t.lock = int64(binary.BigEndian.Uint64(random[:]) >> 1)
	t.opening = "BEGIN; SELECT pg_catalog.pg_advisory_lock(" + strconv.FormatInt(t.lock, 10) + "); " + t.nextSavepoint()
	return true
}

// own sends the commands of ours that are due, alone.
func (t *sharedCommit) own() bool {
	t.buf = appendSimple(t.buf[:0], t.opening)
	if _, err := t.write(); err != nil {
		t.broke(err)
		return false
	}
	return t.opened()
}

// opened reads the answer to the commands of ours before a round, and reports whether they have succeeded in the open transaction.
func (t *sharedCommit) opened() bool {
	t.opening = ""
	var end segmentEnd
	if err := t.readSegment(&end); err != nil {
		t.broke(err)
		return false
	}
	if end.failed != nil || t.status != 'T' { // what follows may be at work outside of the transaction
		t.markBroken(true)
		return false
	}
	return true
}

// broke ends the session after an error of the connection, or a message out of order. Nothing is committed.
func (t *sharedCommit) broke(err error) {
	t.abandon(err)
	if linkLost(err) || errors.Is(err, errEnded) {
		t.d.lost()
	}
}

func (t *sharedCommit) nextSavepoint() string {
	t.savepoints++
	name := t.name + "_" + strconv.Itoa(t.savepoints)
	t.open = append(t.open, name)
	return "SAVEPOINT " + name
}
