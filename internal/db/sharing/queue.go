package sharing

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

const (
	// Most is the maximum number of transactions in one group.
	Most = 16
	// joinTime is how long a transaction waits for others to join at most. Beyond it, it waits only for a connection.
	joinTime = 2 * time.Millisecond
)

// Runner runs what a Queue has brought together.
type Runner interface {
	// Alone runs one transaction by itself.
	Alone(ctx context.Context, m *Member) ([]db.ResultSet, error)

	// Lead gets a connection for own, and asks own's Begin. With an error from one of the two it returns it, and nothing was
	// started. Otherwise it calls gather once and runs the group that it returns, own first, in a context that cut ends: one of its
	// members was given up then. It calls Finish of the members whose end is known; the others are run by themselves.
	Lead(ctx context.Context, own *Member, gather func(cut func()) []*Member) error
}

// Queue holds the transactions of one database that may share a commit, while they wait for others or for a connection. A
// transaction that comes while no group is under way and none waits runs immediately. All methods may be called concurrently.
type Queue struct {
	most   int // groups at a time
	runner Runner

	mu      sync.Mutex // guards what follows, and Member.cut
	leading int
	waiting []*Member // in the order of their arrival
}

// NewQueue returns a queue that runs as many groups at a time.
func NewQueue(groups int, runner Runner) *Queue { return &Queue{most: groups, runner: runner} }

// Member is one transaction, from its call to its end. The caller of Transact owns it; the leader of its group has it until it
// sends an event.
type Member struct {
	Call *db.Call
	Tx   *db.Transaction
	Opts db.RowOptions
	Seal db.BeforeCommit

	Entry *db.Entry // the ledger row that Seal has returned in its group; nil: none

	sets     []db.ResultSet
	err      error
	finished bool

	since time.Time
	event chan event // has room for one
	cut   func()     // under Queue.mu: ends what its group waits for; nil: no group has it
}

// event is what a waiting member receives.
type event uint8

const (
	toLead event = iota + 1
	ended
)

// Possible reports whether a transaction can be in a group: it ends with a COMMIT, has the engine's own isolation level and one round trip,
// and its rows may stay in memory.
func Possible(tx *db.Transaction, opts db.RowOptions) bool {
	for _, s := range tx.Statements {
		if s.Batch != nil {
			return false
		}
	}
	return tx.Shared && !tx.DryRun && tx.Isolation == db.IsolationDefault && !opts.AlwaysOverflow
}

// Finish notes the end of a member in its group: it has committed, or that cannot be known.
func (m *Member) Finish(sets []db.ResultSet, err error) { m.sets, m.err, m.finished = sets, err, true }

// begin asks the member's last question before it is started; see db.Call. A panic is the job's own: it is run by itself.
func (m *Member) begin() (started bool) {
	defer func() { _ = recover() }()
	if m.Call.Begin == nil {
		return true
	}
	if err := m.Call.Begin(); err != nil {
		m.Finish(nil, err)
		return false
	}
	return true
}

// Sealed calls the member's Seal, if any, and reports whether it agrees.
func (m *Member) Sealed(ctx context.Context, sets []db.ResultSet) (ok bool) {
	defer func() { _ = recover() }()
	m.Entry = nil
	if m.Seal == nil {
		return true
	}
	var err error
	m.Entry, err = m.Seal(ctx, sets)
	// A row that is written over another one is not among those that a group inserts.
	return err == nil && (m.Entry == nil || m.Entry.Supersedes.IsZero())
}

// Earliest is the shortest of the members' time limits; 0: they have none.
func Earliest(members []*Member) (limit time.Duration) {
	for _, m := range members {
		if own := m.Call.Timeout; own > 0 && (limit == 0 || own < limit) {
			limit = own
		}
	}
	return limit
}

// Started asks the last question of all members but the first, whose own was asked, and returns those that may start.
func Started(members []*Member) []*Member {
	started := members[:1:1]
	for _, m := range members[1:] {
		if m.begin() {
			started = append(started, m)
		}
	}
	return started
}

// Transact runs a transaction in a group or by itself; see db.Executor.
func (q *Queue) Transact(
	ctx context.Context, call *db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	m := &Member{Call: call, Tx: tx, Opts: opts, Seal: seal}
	next := toLead
	if !q.enter(m) {
		var err error
		if next, err = q.await(ctx, m); err != nil {
			return nil, err
		}
	}
	if next == toLead {
		if err := q.lead(ctx, m); err != nil {
			return nil, err
		}
	}
	if m.finished {
		return m.sets, m.err
	}
	return q.runner.Alone(ctx, m)
}

// enter makes the transaction a leader, or lets it wait.
func (q *Queue) enter(m *Member) (leads bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leading < q.most && (q.leading == 0 && len(q.waiting) == 0 || len(q.waiting) >= Most-1) {
		q.leading++
		return true
	}
	m.since, m.event = time.Now(), make(chan event, 1)
	q.waiting = append(q.waiting, m)
	return false
}

// await waits for the transaction's event. An error: it was given up before a group had it.
func (q *Queue) await(ctx context.Context, m *Member) (event, error) {
	joining := time.NewTimer(joinTime)
	defer joining.Stop()
	for {
		select {
		case next := <-m.event:
			return next, nil
		case <-joining.C:
			if q.claim(m) {
				return toLead, nil
			}
		case <-ctx.Done():
			if q.leave(m) {
				return 0, engine.WaitGivenUp(ctx)
			}
			return <-m.event, nil
		}
	}
}

// claim makes a transaction a leader that has waited for others, if there may be one more. Otherwise it is promoted by one of those.
func (q *Queue) claim(m *Member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, m)
	if i < 0 || q.leading >= q.most {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.leading++
	return true
}

// leave removes a transaction that its owner gave up. false: an event is on its way to it; a group that has it is cut.
func (q *Queue) leave(m *Member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, m); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		return true
	}
	if m.cut != nil {
		m.cut()
	}
	return false
}

// lead runs a group. The events of its other members are sent when it is over, also by a panic.
func (q *Queue) lead(ctx context.Context, own *Member) error {
	var group []*Member
	defer func() { q.pass(group) }()
	return q.runner.Lead(ctx, own, func(cut func()) []*Member {
		group = q.gather(own, cut)
		return group
	})
}

// gather makes a group of a leader's transaction and of those that wait.
func (q *Queue) gather(own *Member, cut func()) []*Member {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), Most-1)
	group := append(make([]*Member, 0, 1+n), own)
	for _, m := range q.waiting[:n] {
		m.cut = cut
		group = append(group, m)
	}
	q.waiting = slices.Delete(q.waiting, 0, n)
	return group
}

// pass ends a leadership: the first one that has waited long enough for others leads next.
func (q *Queue) pass(group []*Member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, m := range group {
		if i > 0 {
			m.cut = nil
			m.event <- ended
		}
	}
	q.leading--
	if len(q.waiting) == 0 || len(q.waiting) < Most && time.Since(q.waiting[0].since) < joinTime {
		return
	}
	next := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	q.leading++
	next.event <- toLead
}

// Longest returns how many wait, and how long the first of them has waited. A queue that is nil has none.
func (q *Queue) Longest() (waiting int, longest time.Duration) {
	if q == nil {
		return 0, 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) > 0 {
		longest = time.Since(q.waiting[0].since)
	}
	return len(q.waiting), longest
}

// Entries are the ledger rows of members that Seal has returned, in the order of their keys, in which every group writes them.
func Entries(members []*Member) []*db.Entry {
	entries := make([]*db.Entry, 0, len(members))
	for _, m := range members {
		if m.Entry != nil {
			entries = append(entries, m.Entry)
		}
	}
	slices.SortFunc(entries, func(a, b *db.Entry) int { return strings.Compare(a.JobID, b.JobID) })
	return entries
}
