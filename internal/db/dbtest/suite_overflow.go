package dbtest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// places is an Overflow in memory.
type places struct {
	arrays  bool
	fail    *db.Error // of each row behind the first
	failEnd *db.Error // of the end of a file
	stuck   *stuck    // nil: rows are taken immediately

	mu     sync.Mutex
	opened []*place
}

// stuck takes no row behind the first until the work is given up.
type stuck struct {
	reached chan struct{}
	givenUp <-chan struct{}
}

func (s *stuck) row() error {
	close(s.reached)
	<-s.givenUp
	return db.Errorf(db.ClassCanceled, db.CodeCanceled, "given up while a row was written")
}

// place is the file of one set.
type place struct {
	of     *places
	set    int
	rows   []string
	closed bool
}

func (p *places) Open(set int, _ []contract.Column) (db.RowFile, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.opened); n > 0 && p.opened[n-1].set >= set { // the call started again
		p.opened = nil
	}
	f := &place{of: p, set: set}
	p.opened = append(p.opened, f)
	return f, nil
}

func (f *place) AsArrays() bool { return f.of.arrays }

func (f *place) Row(text []byte) error {
	f.rows = append(f.rows, string(text))
	switch {
	case len(f.rows) == 1:
	case f.of.stuck != nil:
		return f.of.stuck.row()
	case f.of.fail != nil:
		return f.of.fail
	}
	return nil
}

func (f *place) Close() (*contract.RowsObject, error) {
	f.closed = true
	if f.of.failEnd != nil {
		return nil, f.of.failEnd
	}
	return &contract.RowsObject{Name: "set " + fmt.Sprint(f.set), RowCount: int64(len(f.rows))}, nil
}

// into are options whose rows overflow above so many bytes.
func (p *places) into(inline int64) db.RowOptions {
	return db.RowOptions{Format: db.Arrays, InlineBytes: inline, Overflow: p}
}

// requireNumbers checks that rows of one column hold 1 to n.
func requireNumbers(t *testing.T, rows []string, n int) {
	t.Helper()
	require.Len(t, rows, n)
	for i, text := range rows {
		var row []json.Number
		require.NoError(t, json.Unmarshal([]byte(text), &row), text)
		require.Equal(t, fmt.Sprint(i+1), row[0].String())
	}
}

const (
	someRows = 5000
	// giantRows are more than fit between a server and who does not read them.
	giantRows = 5_000_000
)

func testOverflow(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Read":     testOverflowRead,
		"Outside":  testOverflowOutside,
		"Transact": testOverflowTransact,
		"Fails":    testOverflowFails,
		"Caps":     testOverflowCaps,
		"Cancel":   testOverflowCancel,
		"Stuck":    testOverflowStuck,
		"Many":     testOverflowMany,
	})
}

func testOverflowRead(t *testing.T, h Harness) {
	b := setup(t, h)
	numbers := b.compile(h.SQL.Numbers(someRows))
	for _, p := range []*places{{}, {arrays: true}} {
		for range 2 { // prepared, and again
			p.opened = nil
			set, err := b.db.Read(t.Context(), call(), numbers, p.into(500))
			require.NoError(t, err)
			require.Nil(t, set.Rows)
			require.Equal(t, "set 0", set.Object.Name)
			require.EqualValues(t, someRows, set.RowCount)
			require.Len(t, set.Columns, 1)
			require.Len(t, p.opened, 1)
			require.True(t, p.opened[0].closed)
			requireNumbers(t, p.opened[0].rows, someRows)
		}
	}
	room := &places{}
	set, err := b.db.Read(t.Context(), call(), numbers, room.into(1<<20))
	require.NoError(t, err)
	require.Empty(t, room.opened, "what has room stays")
	require.NotNil(t, set.Rows)
}

func testOverflowOutside(t *testing.T, h Harness) {
	b := setup(t, h)
	p := &places{}
	opts := p.into(1 << 20)
	opts.AlwaysOverflow = true
	set, err := b.db.Read(t.Context(), call(), b.compile("SELECT id FROM item WHERE id = 0"), opts)
	require.NoError(t, err)
	require.NotNil(t, set.Object, "no rows are a file without rows")
	require.Zero(t, set.RowCount)
	p.opened = nil
	tx := one(b.item(1, "a"), db.IsolationDefault)
	sets, err := b.db.Transact(t.Context(), call(), tx, opts, nil)
	require.NoError(t, err)
	require.Nil(t, sets[0].Object, "a statement without columns has no rows")
	require.Empty(t, p.opened)
}

func testOverflowTransact(t *testing.T, h Harness) {
	b := setup(t, h)
	p := &places{}
	tx := &db.Transaction{
		Statements: []*dialect.Compiled{b.compile(h.SQL.Numbers(3)), b.item(1, "a"), b.compile(h.SQL.Numbers(someRows)), b.compile(h.SQL.Numbers(2))},
		Expect:     make([]*db.Range, 4),
	}
	opts := p.into(6000)
	opts.Sets = 4
	sets, err := b.db.Transact(t.Context(), call(), tx, opts, sealed("job"))
	require.NoError(t, err)
	require.NotNil(t, sets[0].Rows)
	require.Nil(t, sets[1].Columns)
	require.NotNil(t, sets[2].Object)
	require.EqualValues(t, someRows, sets[2].RowsAffected)
	require.NotNil(t, sets[3].Rows)
	requireNumbers(t, p.opened[0].rows, someRows)
	require.Equal(t, 1, b.count("item"))
}

// testOverflowFails: the transaction is rolled back, its error is the file's, and the session is as good as before.
func testOverflowFails(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	refusal := db.Errorf(db.ClassTransient, contract.CodeResources, "no room for rows")
	for _, p := range []*places{{fail: refusal}, {failEnd: refusal}, {fail: refusal}} {
		tx := &db.Transaction{
			Statements: []*dialect.Compiled{b.item(1, "a"), b.compile(h.SQL.Numbers(someRows)), b.item(2, "b")}, Expect: make([]*db.Range, 3),
		}
		_, err := b.db.Transact(t.Context(), call(), tx, p.into(500), sealed("job"))
		e := requireError(t, err, db.ClassTransient, contract.CodeResources)
		require.Contains(t, e.Message, "no room for rows")
		require.Equal(t, 1, e.Statement)
		_, err = b.db.Read(t.Context(), call(), b.compile(h.SQL.Numbers(someRows)), p.into(500))
		requireError(t, err, db.ClassTransient, contract.CodeResources)
		require.Zero(t, b.count("item"))
	}
	empty := (&places{failEnd: refusal}).into(500)
	empty.AlwaysOverflow = true
	_, err := b.db.Read(t.Context(), call(), b.compile("SELECT id FROM item"), empty)
	requireError(t, err, db.ClassTransient, contract.CodeResources)
	_, err = b.transact(sealed("job"), b.item(1, "a"))
	require.NoError(t, err, "the key is free")
}

// testOverflowCaps: a giant result that is refused in the middle is not read to its end.
func testOverflowCaps(t *testing.T, h Harness) {
	b := setup(t, h)
	giant := b.compile(h.SQL.Numbers(giantRows))
	started := time.Now()
	opts := (&places{}).into(500)
	opts.MaxRows = 1000
	_, err := b.db.Read(t.Context(), call(), giant, opts)
	e := requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	require.Contains(t, e.Message, "1000 rows")
	opts = (&places{}).into(500)
	opts.MaxBytes = 10_000
	_, err = b.db.Read(t.Context(), call(), giant, opts)
	e = requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	require.Contains(t, e.Message, "10000 bytes")
	requireStopped(b)
	require.Less(t, time.Since(started), testTimeout/2)
	require.Zero(t, b.count("item"), "the next call works")
}

// testOverflowCancel gives a giant result up while its rows are written.
func testOverflowCancel(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	giant := b.compile(h.SQL.Numbers(giantRows))
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	started := time.Now()
	_, err := b.db.Read(ctx, call(), giant, (&places{}).into(500))
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	_, err = b.db.Read(t.Context(), db.Call{Label: "giant", Timeout: short}, giant, (&places{}).into(500))
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	requireStopped(b)
	require.Less(t, time.Since(started), testTimeout/2)
	require.Zero(t, b.count("item"), "the next call works")
}

// testOverflowStuck gives a giant result up while nothing takes its rows, so that the server waits to send them.
func testOverflowStuck(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	giant := b.compile(h.SQL.Numbers(giantRows))
	tx := &db.Transaction{Statements: []*dialect.Compiled{b.item(1, "a"), giant}, Expect: make([]*db.Range, 2)}
	for _, run := range []func(ctx context.Context, p *places) error{
		func(ctx context.Context, p *places) error {
			_, err := b.db.Read(ctx, call(), giant, p.into(500))
			return err
		},
		func(ctx context.Context, p *places) error {
			_, err := b.db.Transact(ctx, call(), tx, p.into(500), sealed("job"))
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &places{stuck: &stuck{reached: make(chan struct{}), givenUp: ctx.Done()}}
		end := make(chan error, 1)
		go func() { end <- run(ctx, p) }()
		await(t, p.stuck.reached, "the rows")
		requireRunning(b, true, "the server has sent all of it: the case says nothing")
		started := time.Now()
		cancel()
		requireError(t, await(t, end, "the canceled call"), db.ClassCanceled, db.CodeCanceled)
		requireStopped(b)
		require.Less(t, time.Since(started), testTimeout/4)
		require.Zero(t, b.count("item"), "rolled back, and the next call works")
	}
	_, err := b.transact(sealed("job"), b.item(1, "a"))
	require.NoError(t, err, "the key is free")
}

// testOverflowMany reads concurrently more than the pool has connections for, small results and those that overflow.
func testOverflowMany(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	small, large := b.compile(h.SQL.Numbers(3)), b.compile(h.SQL.Numbers(someRows))
	for range 20 { // known as quick
		_, err := b.db.Read(t.Context(), call(), small, arrays())
		require.NoError(t, err)
	}
	var reads sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 60 {
		reads.Go(func() {
			p := &places{}
			stmt, want := small, 3
			if i%3 == 0 {
				stmt, want = large, someRows
			}
			set, err := b.db.Read(t.Context(), call(), stmt, p.into(200))
			switch {
			case err != nil:
				errs <- err
			case set.RowCount != int64(want):
				errs <- fmt.Errorf("%d rows of %d", set.RowCount, want)
			case want == someRows && (set.Object == nil || len(p.opened) != 1 || len(p.opened[0].rows) != want || !p.opened[0].closed):
				errs <- fmt.Errorf("the rows are not in their file: %+v", set.Object)
			}
		})
	}
	reads.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}
