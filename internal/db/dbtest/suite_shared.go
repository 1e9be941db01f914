package dbtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testShared runs transactions that may share a commit.
func testShared(t *testing.T, h Harness) {
	if !h.Has.SharedCommits || h.Has.Pooled { // there are no groups
		return
	}
	cases(t, h, map[string]func(*testing.T, Harness){
		"Commits":        testSharedCommits,
		"FailingMembers": testSharedFailures,
		"LostRow":        testSharedLostRow,
		"TakenKey":       testSharedTakenKey,
		"SameKey":        testSharedSameKey,
		"Refused":        testSharedRefused,
		"Canceled":       testSharedCanceled,
		"Deadline":       testSharedDeadline,
		"Panic":          testSharedPanic,
		"Overlapping":    testSharedOverlapping,
		"DryRun":         testSharedDryRun,
		"Deferred":       testSharedDeferred,
		"Sessions":       testSharedSessions,
		"Poisons":        testSharedPoisons,
		"Alone":          testSharedAlone,
	})
}

// sharer is one transaction of a group under test.
type sharer struct {
	tx      *db.Transaction
	seal    db.BeforeCommit
	ctx     context.Context
	timeout time.Duration
	begin   func() error

	starts int32 // how often it was started
	sets   []db.ResultSet
	err    error
}

// shares is a transaction with statements, under a job's id.
func shares(job string, statements ...*dialect.Compiled) *sharer {
	tx := &db.Transaction{Statements: statements, Expect: make([]*db.Range, len(statements)), Shared: true}
	return &sharer{tx: tx, seal: sealed(job), timeout: testTimeout}
}

// sharing opens a database on which one transaction runs at a time.
func sharing(t *testing.T, h Harness) *bench {
	t.Helper()
	return setup(t, h, func(o *db.Options) { o.Pool.Max, o.SharedCommits = h.SmallestPool, true })
}

// together runs transactions in one group: the first one waits until all others do.
func (b *bench) together(members ...*sharer) {
	b.t.Helper()
	var all sync.WaitGroup
	waiting := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(waiting) })
	defer goOn()
	for i, m := range members {
		ctx := m.ctx
		if ctx == nil {
			ctx = b.t.Context()
		}
		started := make(chan struct{})
		begin := func() error {
			if atomic.AddInt32(&m.starts, 1) == 1 {
				if i == 0 {
					close(started)
					<-waiting
				}
				if m.begin != nil {
					return m.begin()
				}
			}
			return nil
		}
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					m.err = fmt.Errorf("panic: %v", p)
				}
			}()
			m.sets, m.err = b.db.Transact(ctx, db.Call{Label: "shared", Timeout: m.timeout, Begin: begin}, m.tx, objects(), m.seal)
		})
		if i == 0 {
			await(b.t, started, "the first of a group")
		} else {
			eventually(b.t, func() bool { return b.db.Stats().Waiting == i }, "the others wait")
		}
	}
	goOn()
	all.Wait()
}

// unquoted is a number that a result may hold as a string.
func unquoted(value string) string { return strings.Trim(value, `"`) }

// requireShared requires that transactions have succeeded in their group, and are on record.
func (b *bench) requireShared(members ...*sharer) {
	b.t.Helper()
	for _, m := range members {
		require.NoError(b.t, m.err)
		require.EqualValues(b.t, 1, m.starts, "it was started once: in its group")
	}
}

// requireRows requires that these jobs have ledger rows.
func (b *bench) requireRows(there bool, jobs ...string) {
	b.t.Helper()
	for _, job := range jobs {
		row, err := b.db.Lookup(b.t.Context(), job)
		require.NoError(b.t, err)
		require.Equal(b.t, there, row != nil, job)
	}
}

func testSharedCommits(t *testing.T, h Harness) {
	b := sharing(t, h)
	var members []*sharer
	var jobs []string
	for i := range 16 {
		jobs = append(jobs, fmt.Sprintf("job-%d", i))
		members = append(members, shares(jobs[i], b.item(i, jobs[i]), b.compile("SELECT count(*) AS n FROM item")))
	}
	members[3].seal = nil
	members[7].seal = func(context.Context, []db.ResultSet) (*db.Entry, error) { return nil, nil }
	members[4].tx.Expect[0] = &db.Range{Min: 1, Max: 1}
	members[5].tx.MaxAffected = 1
	b.together(members...)
	b.requireShared(members...)
	for i, m := range members {
		require.Len(t, m.sets, 2)
		require.EqualValues(t, 1, m.sets[0].RowsAffected)
		require.Equal(t, fmt.Sprint(i+1), unquoted(only(t, m.sets[1], "n")), "they run in the order in which they came")
		b.requireRows(i != 3 && i != 7, jobs[i])
	}
	require.Equal(t, 16, b.count("item"))
}

// testSharedFailures lets transactions of a group fail, each in its own way. Their ends are those of runs by themselves, and the
// others share a commit.
func testSharedFailures(t *testing.T, h Harness) {
	refusal := db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge, "too large")
	for name, c := range map[string]struct {
		fails func(b *bench, m *sharer)
		code  contract.Code
	}{
		"Error":     {func(b *bench, m *sharer) { m.tx.Statements[1] = b.item(2, "again") }, contract.CodeUnique},
		"Parameter": {func(b *bench, m *sharer) { m.tx.Statements[1] = b.compile(h.SQL.DataError, named{"value": text("x")}) }, contract.CodeData},
		"Guard":     {func(_ *bench, m *sharer) { m.tx.Expect[1] = &db.Range{Min: 2, Max: 2} }, contract.CodeExpectRows},
		"Limit":     {func(_ *bench, m *sharer) { m.tx.MaxAffected = 1 }, contract.CodeMaxAffected},
		"Seal": {func(_ *bench, m *sharer) {
			m.seal = func(context.Context, []db.ResultSet) (*db.Entry, error) { return nil, refusal }
		}, contract.CodeResultTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range 3 {
				b := sharing(t, h)
				members := []*sharer{
					shares("a", b.item(10, "a"), b.item(11, "a1")), shares("b", b.item(20, "b"), b.item(21, "b1")), shares("c", b.item(30, "c"), b.item(31, "c1")),
				}
				b.exec("INSERT INTO item (id, name) VALUES (2, 'there')")
				failing := members[at]
				c.fails(b, failing)
				b.together(members...)
				e := requireError(t, failing.err, db.ClassPermanent, c.code)
				require.Equal(t, int32(2), failing.starts, "by itself, too: %v", e)
				require.Nil(t, failing.sets)
				for i, m := range members {
					if i != at {
						b.requireShared(m)
					}
					b.requireRows(i != at, string(rune('a'+i)))
				}
				require.Equal(t, 5, b.count("item"))
			}
		})
	}
}

// testSharedLostRow lets a transaction meet a neighbor's row that never comes to exist.
func testSharedLostRow(t *testing.T, h Harness) {
	b := sharing(t, h)
	fails := shares("fails", b.item(1, "fails"), b.item(2, "fails too"))
	fails.tx.Expect[1] = &db.Range{Min: 5, Max: 5}
	meets, sees, last := shares("meets", b.item(1, "meets")), shares("sees", b.compile("SELECT count(*) AS n FROM item")), shares("last", b.item(3, "last"))
	b.together(fails, meets, sees, last)
	require.Equal(t, db.ClassPermanent, db.ClassOf(fails.err), "%v", fails.err)
	require.NoError(t, meets.err)
	b.requireShared(sees, last)
	require.Contains(t, []string{"0", "1", "2"}, unquoted(only(t, sees.sets[0], "n")), "it has seen nothing of the one that failed")
	require.Equal(t, `"meets"`, b.value("SELECT name FROM item WHERE id = 1", "name"))
	require.Equal(t, 2, b.count("item"))
	b.requireRows(true, "meets", "sees", "last")
	b.requireRows(false, "fails")
}

func testSharedTakenKey(t *testing.T, h Harness) {
	b := sharing(t, h)
	_, err := b.transact(sealed("taken"), b.item(1, "first"))
	require.NoError(t, err)
	free, taken, other := shares("free", b.item(2, "free")), shares("taken", b.item(3, "taken")), shares("other", b.item(4, "other"))
	b.together(free, taken, other)
	require.NoError(t, free.err)
	require.NoError(t, other.err)
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(taken.err), "%v", taken.err)
	require.Equal(t, 3, b.count("item"))
	b.requireRows(true, "free", "other")
}

// testSharedSameKey has two messages of one job in a group: one of them takes effect.
func testSharedSameKey(t *testing.T, h Harness) {
	b := sharing(t, h)
	members := []*sharer{shares("same", b.item(1, "one")), shares("other", b.item(2, "other")), shares("same", b.item(3, "another"))}
	b.together(members...)
	require.NoError(t, members[1].err)
	ok, refused := members[0], members[2]
	if ok.err != nil {
		ok, refused = refused, ok
	}
	require.NoError(t, ok.err)
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(refused.err), "%v", refused.err)
	require.Equal(t, 2, b.count("item"))
}

// testSharedRefused refuses to start a member.
func testSharedRefused(t *testing.T, h Harness) {
	b := sharing(t, h)
	refusal := db.Errorf(db.ClassCanceled, db.CodeCanceled, "not now")
	first, refused, last := shares("first", b.item(1, "first")), shares("refused", b.item(2, "refused")), shares("last", b.item(3, "last"))
	refused.begin = func() error { return refusal }
	b.together(first, refused, last)
	b.requireShared(first, last)
	require.Equal(t, refusal, refused.err)
	require.Equal(t, 2, b.count("item"))
}

// testSharedCanceled gives a member up while its neighbor is at work: the group dissolves, and only that member fails.
func testSharedCanceled(t *testing.T, h Harness) {
	h.Needs(t, LacksCancel)
	b := sharing(t, h)
	beside := b.second()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, slow, gone := shares("first", b.item(1, "first")), shares("slow", b.compile(h.SQL.Slow)), shares("gone", b.item(3, "gone"))
	slow.timeout, gone.ctx = 20*time.Second, ctx
	slow.begin = func() error {
		time.AfterFunc(50*time.Millisecond, cancel) // in the statement, mostly
		return nil
	}
	slowEnd, stop := context.WithCancel(t.Context())
	defer stop()
	slow.ctx = slowEnd
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer stop()
		for t.Context().Err() == nil {
			if row, err := beside.Lookup(t.Context(), "first"); err == nil && row != nil {
				return
			}
			time.Sleep(5 * time.Millisecond) // by the clock: it polls beside the test, which waits for the group
		}
	}()
	b.together(first, slow, gone)
	<-ended
	require.NoError(t, first.err)
	require.Equal(t, db.ClassCanceled, db.ClassOf(gone.err), "%v", gone.err)
	require.Equal(t, db.ClassCanceled, db.ClassOf(slow.err), "it was stopped when it ran by itself: %v", slow.err)
	require.Equal(t, 1, b.count("item"))
	b.requireRows(true, "first")
	b.requireRows(false, "gone", "slow")
}

// testSharedDeadline ends the time of a member: the group dissolves, and only the one that is slow fails.
func testSharedDeadline(t *testing.T, h Harness) {
	h.Needs(t, LacksCancel)
	b := sharing(t, h)
	first, slow, short := shares("first", b.item(1, "first")), shares("slow", b.compile(h.SQL.Slow)), shares("short", b.item(3, "short"))
	slow.timeout, short.timeout = 2*time.Second, time.Second
	b.together(first, slow, short)
	require.NoError(t, first.err)
	require.NoError(t, short.err)
	requireError(t, slow.err, db.ClassTimeout, contract.CodeTimeout)
	require.Equal(t, 2, b.count("item"))
	b.requireRows(true, "first", "short")
	b.requireRows(false, "slow")
}

// testSharedPanic lets the seal of a member panic: that is its own end.
func testSharedPanic(t *testing.T, h Harness) {
	b := sharing(t, h)
	first, bad, last := shares("first", b.item(1, "first")), shares("bad", b.item(2, "bad")), shares("last", b.item(3, "last"))
	bad.seal = func(context.Context, []db.ResultSet) (*db.Entry, error) { panic("boom") }
	b.together(first, bad, last)
	b.requireShared(first, last)
	require.ErrorContains(t, bad.err, "panic: boom")
	require.Equal(t, 2, b.count("item"))
	bad.seal = sealed("bad")
	_, err := b.db.Transact(t.Context(), call(), bad.tx, objects(), bad.seal)
	require.NoError(t, err, "the pool is as it was")
}

// testSharedOverlapping runs groups with the same ids in different orders on two runners.
func testSharedOverlapping(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.SharedCommits = true })
	other := b.second()
	var all sync.WaitGroup
	var succeeded atomic.Int64
	const rounds, ids = 6, 16
	for round := range rounds {
		for runner, d := range []db.Database{b.db, other} {
			for i := range ids {
				id := i
				if runner == 1 {
					id = ids - 1 - i
				}
				job := fmt.Sprintf("job-%d-%d", round, id)
				tx := &db.Transaction{Statements: []*dialect.Compiled{b.item(2*(round*ids+id)+runner, fmt.Sprint(job, " ", runner))}, Expect: make([]*db.Range, 1), Shared: true}
				all.Go(func() {
					err := attempts(t.Context(), d, tx, sealed(job))
					if err == nil {
						succeeded.Add(1)
					} else if class := db.ClassOf(err); class != db.ClassAlreadyRecorded {
						t.Errorf("%s: %v", job, err)
					}
				})
			}
		}
		all.Wait()
	}
	require.EqualValues(t, rounds*ids, succeeded.Load())
	require.Equal(t, rounds*ids, b.count("item"))
}

// testSharedAlone runs transactions that may share a commit, while no other is there, and those that cannot.
func testSharedAlone(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.SharedCommits = true })
	m := shares("alone", b.item(1, "alone"))
	sets, err := b.db.Transact(t.Context(), call(), m.tx, objects(), m.seal)
	require.NoError(t, err)
	require.Len(t, sets, 1)
	m = shares("isolated", b.item(2, "isolated"))
	m.tx.Isolation = db.Serializable
	_, err = b.db.Transact(t.Context(), call(), m.tx, objects(), m.seal)
	require.NoError(t, err)
	require.Equal(t, 2, b.count("item"))
}
