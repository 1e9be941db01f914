package dbtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

func testPool(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Waits":   testPoolWaits,
		"GivesUp": testPoolGivesUp,
		"Bounded": testPoolBounded,
	})
}

// occupied opens a transaction on a pool that has room for one only.
func occupied(t *testing.T, h Harness) (b *bench, release func()) {
	t.Helper()
	b = setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	held, goOn, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	insert := b.item(1, "holder")
	go func() {
		_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
			close(held)
			<-goOn
			return nil, nil
		}, insert)
		end <- err
	}()
	await(t, held, "the connection")
	return b, sync.OnceFunc(func() {
		close(goOn)
		require.NoError(t, await(t, end, "the holder"))
	})
}

func testPoolWaits(t *testing.T, h Harness) {
	b, release := occupied(t, h)
	defer release()
	insert, second := b.item(2, "waiter"), make(chan error, 1)
	go func() {
		_, err := b.transact(nil, insert)
		second <- err
	}()
	eventually(t, func() bool { return b.db.Stats().Waiting == 1 }, "a waiter shows in the statistics")
	stats := b.db.Stats()
	require.Equal(t, h.SmallestPool, stats.Max)
	require.GreaterOrEqual(t, stats.InUse, 1)
	require.LessOrEqual(t, stats.Total, stats.Max)
	release()
	require.NoError(t, await(t, second, "the waiter"))
	require.Equal(t, 2, b.count("item"))
	stats = b.db.Stats()
	require.Positive(t, stats.AcquireWait)
	require.Zero(t, stats.Waiting)
	require.Zero(t, stats.InUse)
	require.GreaterOrEqual(t, stats.Acquires, int64(2))
}

func testPoolGivesUp(t *testing.T, h Harness) {
	b, release := occupied(t, h)
	defer release()
	before := b.db.Stats().CanceledAcquires
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	c := call()
	c.Begin = func() error { t.Error("started without a connection"); return nil }
	_, err := b.db.Transact(ctx, c, one(b.item(2, "waiter"), db.IsolationDefault), objects(), nil)
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	stats := b.db.Stats()
	require.Equal(t, before+1, stats.CanceledAcquires)
	require.GreaterOrEqual(t, stats.AcquireWait, short/2, "a wait that was given up counts")
	release()
	require.Equal(t, 1, b.count("item"))
}

// testPoolBounded sends more concurrent calls than there are connections.
func testPoolBounded(t *testing.T, h Harness) {
	const limit, calls = 3, 24
	b := setup(t, h, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, limit })
	var wg sync.WaitGroup
	for i := range calls {
		insert, read := b.item(i, fmt.Sprint(i)), b.compile(h.SQL.Numbers(100))
		wg.Go(func() {
			_, err := b.transact(nil, insert)
			check(t, err)
		})
		wg.Go(func() {
			_, err := b.db.Read(t.Context(), call(), read, objects())
			check(t, err)
			if total := b.db.Stats().Total; total > limit {
				t.Errorf("%d connections, at most %d are allowed", total, limit)
			}
		})
	}
	wg.Wait()
	require.Equal(t, calls, b.count("item"))
	require.Zero(t, b.db.Stats().InUse)
}

func testClose(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Waits": func(t *testing.T, h Harness) {
			b, release := occupied(t, h)
			closed := make(chan error, 1)
			go func() { closed <- b.db.Close() }()
			select {
			case err := <-closed:
				require.NoError(t, err)
				t.Error("closed while a transaction was open")
			case <-time.After(short / 3): // what must not happen has had its time
			}
			release()
			require.NoError(t, await(t, closed, "Close"))
			b.db = b.second(func(o *db.Options) { o.Pool.Max = 0 })
			require.Equal(t, 1, b.count("item"), "the transaction under way was finished")
		},
		"Refuses": func(t *testing.T, h Harness) {
			b := setup(t, h)
			require.NoError(t, b.db.Close())
			_, err := b.tryRead(b.db, "SELECT 1 AS n")
			require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
			_, err = b.transact(nil, b.item(1, "a"))
			require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
			require.NoError(t, b.db.Close(), "a second time is harmless")
		},
		"Unused": func(t *testing.T, h Harness) {
			d, err := h.Open(h.Options(t))
			require.NoError(t, err)
			require.NoError(t, d.Close())
		},
	})
}
