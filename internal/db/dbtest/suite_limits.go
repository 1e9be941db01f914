package dbtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// short is a time limit that a slow query always exceeds and a small one never.
const short = 300 * time.Millisecond

func testLimits(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"ReadTimeout":     testReadTimeout,
		"TransactTimeout": testTransactTimeout,
		"SealTimeout":     testSealTimeout,
		"ReadCancel":      testReadCancel,
		"TransactCancel":  testTransactCancel,
		"Begin":           testBegin,
		"EndedContext":    testEndedContext,
	})
}

func testReadTimeout(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	slow := b.compile(h.SQL.Slow)
	for range 2 {
		started := time.Now()
		_, err := b.db.Read(t.Context(), db.Call{Label: "slow", Timeout: short}, slow, objects())
		requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
		require.Less(t, time.Since(started), testTimeout/2)
		require.Equal(t, 0, b.count("item"), "the next call works")
	}
	requireStopped(b)
}

// requireStopped waits until the server runs no slow query and sends no giant result any more.
func requireStopped(b *bench) {
	b.t.Helper()
	requireRunning(b, false, "the server goes on with the statement")
}

// requireRunning waits until the server runs such a query, or none.
func requireRunning(b *bench, some bool, what string) {
	b.t.Helper()
	if b.h.SQL.Running == "" || b.h.Has.Lacks[LacksCancel] {
		return
	}
	look := b.second(func(o *db.Options) { o.Pool.Max = 0 })
	running := b.compile(b.h.SQL.Running)
	eventually(b.t, func() bool {
		set, err := look.Read(b.t.Context(), call(), running, objects())
		if err != nil {
			return false
		}
		n := only(b.t, set, "n")
		return some == (n != "0" && n != `"0"`)
	}, what)
}

func testTransactTimeout(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	tx := &db.Transaction{
		Statements: []*dialect.Compiled{b.item(1, "a"), b.compile(h.SQL.Slow)}, Expect: make([]*db.Range, 2),
	}
	started := time.Now()
	_, err := b.db.Transact(t.Context(), db.Call{Label: "slow", Timeout: short}, tx, objects(), sealed("job"))
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	require.Less(t, time.Since(started), testTimeout/2)
	require.Equal(t, 0, b.count("item"))
	_, err = b.transact(sealed("job"), b.item(1, "a"))
	require.NoError(t, err, "the next call works, and the key is free")
	requireStopped(b)
}

// testSealTimeout spends the time in the seal: the transaction must not commit after its time.
func testSealTimeout(t *testing.T, h Harness) {
	b := setup(t, h)
	var seals error
	seal := func(ctx context.Context, _ []db.ResultSet) (*db.Entry, error) {
		select {
		case <-ctx.Done():
			seals = ctx.Err()
		case <-time.After(testTimeout):
		}
		return entry("job"), nil
	}
	_, err := b.db.Transact(t.Context(), db.Call{Label: "slow", Timeout: short},
		one(b.item(1, "a"), db.IsolationDefault), objects(), seal)
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	require.Error(t, seals, "the seal's context ends with the time limit")
	require.Equal(t, 0, b.count("item"))
	row, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.Nil(t, row)
}

func testReadCancel(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	ctx, cancel := context.WithCancel(t.Context())
	slow, started, end := b.compile(h.SQL.Slow), make(chan struct{}), make(chan error, 1)
	go func() {
		c := call()
		c.Begin = func() error { close(started); return nil }
		_, err := b.db.Read(ctx, c, slow, objects())
		end <- err
	}()
	await(t, started, "the connection")
	time.AfterFunc(short, cancel)
	requireError(t, await(t, end, "the canceled read"), db.ClassCanceled, db.CodeCanceled)
	require.Equal(t, 0, b.count("item"), "the next call works")
	requireStopped(b)
}

func testTransactCancel(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	tx := &db.Transaction{
		Statements: []*dialect.Compiled{b.item(1, "a"), b.compile(h.SQL.Slow)}, Expect: make([]*db.Range, 2),
	}
	_, err := b.db.Transact(ctx, call(), tx, objects(), sealed("job"))
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.Equal(t, 0, b.count("item"))
	_, err = b.transact(sealed("job"), b.item(1, "a"))
	require.NoError(t, err, "the next call works, and the key is free")
	requireStopped(b)
}

// testBegin refuses work at the last moment.
func testBegin(t *testing.T, h Harness) {
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	refusal := errors.New("no longer wanted")
	calls := 0
	c := call()
	c.Begin = func() error { calls++; return refusal }
	_, err := b.db.Transact(t.Context(), c, one(b.item(1, "a"), db.IsolationDefault), objects(), sealed("job"))
	require.Same(t, refusal, err)
	_, err = b.db.Read(t.Context(), c, b.compile("SELECT 1 AS n"), objects())
	require.Same(t, refusal, err)
	require.Equal(t, 2, calls)
	require.Equal(t, 0, b.count("item"))

	c.Begin = func() error { calls++; return nil }
	_, err = b.db.Transact(t.Context(), c, one(b.item(1, "a"), db.IsolationDefault), objects(), sealed("job"))
	require.NoError(t, err)
	require.Equal(t, 3, calls)
	require.Zero(t, b.db.Stats().InUse, "every connection came back")
}

func testEndedContext(t *testing.T, h Harness) {
	b := setup(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.db.Transact(ctx, call(), one(b.item(1, "a"), db.IsolationDefault), objects(), nil)
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	_, err = b.db.Read(ctx, call(), b.compile("SELECT 1 AS n"), objects())
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.Equal(t, 0, b.count("item"))
}

// testLocks lets one runner hold what another one wants.
func testLocks(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Timeout": func(t *testing.T, h Harness) {
			h.Needs(t, LacksNumbers)
			b, release, _ := locked(t, h)
			other := b.second(func(o *db.Options) { o.Limits.LockTimeout = short })
			started := time.Now()
			_, err := b.transactOn(other, sealed("second"), b.compile("UPDATE item SET amount = 2 WHERE id = 1"))
			requireError(t, err, db.ClassTransient, contract.CodeLockTimeout)
			require.GreaterOrEqual(t, time.Since(started), short/2)
			release()
			require.Equal(t, 1, b.number("SELECT amount AS n FROM item WHERE id = 1"))
		},
		"Waits": func(t *testing.T, h Harness) {
			b, release, end := locked(t, h)
			other, update := b.second(), b.compile("UPDATE item SET amount = amount + 1 WHERE id = 1")
			second := make(chan error, 1)
			go func() {
				_, err := b.transactOn(other, sealed("second"), update)
				second <- err
			}()
			release()
			require.NoError(t, await(t, end, "the first"))
			require.NoError(t, await(t, second, "the second"))
			require.Equal(t, 2, b.number("SELECT amount AS n FROM item WHERE id = 1"))
		},
		"CallTimeout": func(t *testing.T, h Harness) {
			b, release, _ := locked(t, h)
			other := b.second()
			tx := one(b.compile("UPDATE item SET amount = 2 WHERE id = 1"), db.IsolationDefault)
			_, err := other.Transact(t.Context(), db.Call{Label: "waits", Timeout: short}, tx, objects(), nil)
			requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
			release()
		},
		"Cancel": func(t *testing.T, h Harness) {
			b, release, _ := locked(t, h)
			other := b.second()
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			tx := one(b.compile("UPDATE item SET amount = 2 WHERE id = 1"), db.IsolationDefault)
			_, err := other.Transact(ctx, call(), tx, objects(), nil)
			requireError(t, err, db.ClassCanceled, db.CodeCanceled)
			release()
		},
		"ReadersGoOn": func(t *testing.T, h Harness) {
			b, release, _ := locked(t, h)
			require.Equal(t, 1, b.count("item"))
			release()
		},
	})
}

// locked opens a transaction that has set item 1's amount to 1 and stays open until release is called.
func locked(t *testing.T, h Harness) (b *bench, release func(), end <-chan error) {
	t.Helper()
	b = setup(t, h, func(o *db.Options) { o.Limits.LockTimeout = testTimeout })
	b.exec(insertItem, named{"id": number(1), "name": text("a")})
	held, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	update := b.compile("UPDATE item SET amount = 1 WHERE id = 1")
	go func() {
		defer close(ended)
		_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
			close(held)
			<-goOn
			return entry("holder"), nil
		}, update)
		ended <- err
	}()
	await(t, held, "the lock")
	released := false
	release = func() {
		if !released {
			released = true
			close(goOn)
		}
		eventually(t, func() bool { return b.db.Stats().InUse == 0 }, "the holder ends")
	}
	t.Cleanup(release)
	return b, release, ended
}
