package postgres

import (
	"slices"
	"sync"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// readQueue holds the reads that are running or waiting. There are as many leaders as the pool has connections: a leader
// has a session, or waits for one, and takes some of the waiting reads into its batch. When its batch is done, it makes
// the first read that still waits a leader. So reads share a batch only while there is no connection for each.
type readQueue struct {
	most int // leaders at a time

	mu      sync.Mutex // guards what follows, and the fields of each read that are marked so
	leading int
	waiting []*pendingRead // in the order of their arrival
}

// pendingRead is one Read from its call to its answer. Its owner, the caller of Read, waits for an event; the leader of
// the batch that has it sets the rest.
type pendingRead struct {
	call      *db.Call
	stmt      *dialect.Compiled
	opts      db.RowOptions
	since     time.Time      // of the wait
	readEvent chan readEvent // has room for one

	alone   bool          // it held up others once: it shares no batch any more
	session *session      // with toLead: the session that the previous leader leaves; nil: none
	set     db.ResultSet  // with the answer
	err     error         // with the answer
	waited  time.Duration // until a batch took it

	batch   *readBatch // under readQueue.mu: the one that has it; nil: none, or it is answered
	givenUp bool       // under readQueue.mu: its owner does not want it any more
}

// readEvent is what a waiting read receives.
type readEvent uint8

const (
	toLead   readEvent = iota + 1
	answered           // set or err is there
)

// enter makes the read a leader, or lets it wait.
func (q *readQueue) enter(r *pendingRead) (leads bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leading < q.most {
		q.leading++
		return true
	}
	r.since = time.Now()
	q.waiting = append(q.waiting, r)
	return false
}

// leave removes a read that its owner gave up. false: an event is on its way to it; a batch that has it is cut.
func (q *readQueue) leave(r *pendingRead) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, r); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		return true
	}
	if r.batch != nil {
		r.givenUp = true
		r.batch.cutOff()
	}
	return false
}

// gather moves waiting reads that fit into a batch: its share of them, so that other leaders get theirs, and at most
// maxShared in all.
func (q *readQueue) gather(t *readBatch, fits func(*pendingRead) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return
	}
	part := min((len(q.waiting)+q.leading-1)/q.leading, maxShared-1)
	now, rest := time.Now(), q.waiting[:0]
	for _, r := range q.waiting {
		if part == 0 || r.alone || !fits(r) {
			rest = append(rest, r)
			continue
		}
		part--
		r.batch, r.waited = t, now.Sub(r.since)
		t.reads = append(t.reads, r)
	}
	clear(q.waiting[len(rest):])
	q.waiting = rest
}

// answer completes a read of a batch.
func (q *readQueue) answer(r *pendingRead, set db.ResultSet, err error) {
	q.mu.Lock()
	r.batch = nil
	q.mu.Unlock()
	r.set, r.err = set, err
	r.readEvent <- answered
}

// back puts the unanswered reads of a broken batch in front of the queue, and answers those that were given up.
func (q *readQueue) back(reads []*pendingRead, givenUp error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now, again := time.Now(), make([]*pendingRead, 0, len(reads)+len(q.waiting))
	for _, r := range reads {
		r.batch = nil
		if r.givenUp {
			r.err = givenUp
			r.readEvent <- answered
			continue
		}
		r.since = now
		again = append(again, r)
	}
	q.waiting = append(again, q.waiting...)
	for q.leading < q.most && len(q.waiting) > 0 { // other leaders may have found nothing to do meanwhile
		q.leading++
		q.promote(nil)
	}
}

// pass ends a leadership: the first of those that wait leads now, and gets the session that is left behind, if any.
// false: none waits, and the session is still the caller's.
func (q *readQueue) pass(s *session) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.leading--
		return false
	}
	q.promote(s)
	return true
}

// promote makes the first of those that wait a leader. The mutex is held.
func (q *readQueue) promote(s *session) {
	next := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	next.session, next.waited = s, time.Since(next.since)
	next.readEvent <- toLead
}

// longest returns how many wait, and how long the first of them has waited.
func (q *readQueue) longest() (waiting int, longest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.waiting {
		longest = max(longest, time.Since(r.since))
	}
	return len(q.waiting), longest
}
