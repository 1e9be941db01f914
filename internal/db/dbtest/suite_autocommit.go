package dbtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testOutside runs statements outside of transactions.
func testOutside(t *testing.T, h Harness) {
	if h.Has.Pooled {
		testNothingOutside(t, h)
		return
	}
	cases(t, h, map[string]func(*testing.T, Harness){
		"Alone":     testAlone,
		"Only":      testOnlyOutside,
		"Refused":   testRefusedOutside,
		"Caps":      testOutsideCaps,
		"Begin":     testOutsideBegin,
		"Timeout":   testOutsideTimeout,
		"Cancel":    testOutsideCancel,
		"Sessions":  testOutsideSessions,
		"Once":      testOnce,
		"OnceFails": testOnceFails,
		"Held":      testHeld,
		"Overtaken": testEndOvertaken,
		"LetGo":     testLockLetGo,
		"Race":      testOnceRace,
		"RaceMixed": testMixedRace,
		"Conclude":  testConclude,
	})
}

// execution is one Execute with the error that its End got.
type execution struct {
	b     *bench
	job   string
	inEnd func(set db.ResultSet, err error)
	ended int
	got   error
}

func (b *bench) once(job string) *execution { return &execution{b: b, job: job} }

// ending is the row of a job's end.
func ending(job, status string) *db.Entry {
	e := entry(job)
	e.Status, e.Answer = status, []byte(`{"end":"`+status+`"}`)
	return e
}

func started(job string) *db.Entry {
	e := entry(job)
	e.Status, e.Answer = db.StatusStarted, []byte(`{}`)
	return e
}

func (x *execution) run(ctx context.Context, d db.Database, c db.Call, stmt *dialect.Compiled) (db.ResultSet, error) {
	return d.Execute(ctx, c, stmt, objects(), &db.Once{
		Start: started(x.job),
		End: func(set db.ResultSet, err error) *db.Entry {
			x.ended++
			x.got = err
			if x.inEnd != nil {
				x.inEnd(set, err)
			}
			if err != nil {
				return ending(x.job, "failed")
			}
			return ending(x.job, "succeeded")
		},
	})
}

func (b *bench) execute(stmt *dialect.Compiled) (db.ResultSet, error) {
	return b.db.Execute(b.t.Context(), call(), stmt, objects(), nil)
}

func (b *bench) row(job string) *db.Entry {
	b.t.Helper()
	row, err := b.db.Lookup(b.t.Context(), job)
	require.NoError(b.t, err)
	return row
}

// testNothingOutside: behind a pooler in transaction mode there is no session that a statement could have.
func testNothingOutside(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.execute(b.item(1, "a"))
	requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
	require.Zero(t, b.count("item"))
}

func testAlone(t *testing.T, h Harness) {
	b := setup(t, h)
	set, err := b.execute(b.item(1, "a"))
	require.NoError(t, err)
	require.EqualValues(t, 1, set.RowsAffected)
	require.Nil(t, set.Columns)
	require.Equal(t, 1, b.count("item"))

	set, err = b.execute(b.compile("SELECT id AS n FROM item WHERE name = :name", named{"name": text("a")}))
	require.NoError(t, err)
	require.Equal(t, "1", only(t, set, "n"))
	require.EqualValues(t, 1, set.RowCount)
	_, err = b.execute(b.item(2, "a"))
	require.Zero(t, requireError(t, err, db.ClassPermanent, contract.CodeUnique).Statement)
	_, err = b.execute(&dialect.Compiled{SQL: "SELECT 1 AS n FROM"})
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
	require.Equal(t, 1, b.count("item"))
	require.Zero(t, b.db.Stats().InUse)
}

// testOnlyOutside runs what cannot run in a transaction.
func testOnlyOutside(t *testing.T, h Harness) {
	h.Needs(t, LacksAlterDatabase)
	b := setup(t, h)
	require.NotEmpty(t, h.Outside)
	b.exec(insertItem, named{"id": number(1), "name": text("a")})
	for i, sql := range h.Outside {
		stmt, faults := dialect.CompileAutocommit(b.db.Dialect(), dialect.Statement{SQL: sql})
		require.Empty(t, faults, sql)
		_, err := b.transact(nil, stmt)
		require.Error(t, err, "it runs in a transaction: %s", sql)
		_, err = b.execute(stmt)
		require.NoError(t, err, sql)
		x := b.once(fmt.Sprintf("job-%d", i))
		_, err = x.run(t.Context(), b.db, call(), b.compile("SELECT 1 AS n"))
		require.NoError(t, err, "after %s", sql)
	}
	require.Equal(t, 1, b.count("item"))
}

// testRefusedOutside sends what jobs must not send, as the text of a job that is executed once.
func testRefusedOutside(t *testing.T, h Harness) {
	b := setup(t, h)
	two := "INSERT INTO item (id, name) VALUES (81, 'x'); INSERT INTO item (id, name) VALUES (82, 'y')"
	for i, sql := range append([]string{two}, slices.Concat(h.Refused, h.Bypass)...) {
		if insideOnly(sql) {
			continue
		}
		stmt, faults := dialect.CompileAutocommit(b.db.Dialect(), dialect.Statement{SQL: sql})
		if len(faults) > 0 && !slices.Contains(h.Bypass, sql) {
			continue
		}
		if stmt == nil {
			stmt = &dialect.Compiled{SQL: sql}
		}
		job := fmt.Sprintf("refused-%d", i)
		_, err := b.once(job).run(t.Context(), b.db, call(), stmt)
		require.Error(t, err, "not refused: %s", sql)
		require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%s: %v", sql, err)
		if row := b.row(job); row != nil {
			require.Equal(t, "failed", row.Status, sql)
		}
	}
	require.Equal(t, 0, b.count("item"))
}

// insideOnly lists what is refused inside of transactions only.
func insideOnly(sql string) bool {
	return strings.HasPrefix(sql, "VACUUM") && !strings.Contains(sql, "INTO") || strings.Contains(sql, "OR ROLLBACK")
}

// testOutsideCaps asks for more rows than may be given: what was done is done.
func testOutsideCaps(t *testing.T, h Harness) {
	h.Needs(t, LacksAppLocks)
	b := setup(t, h)
	ten := b.compile(h.SQL.Numbers(10))
	_, err := b.db.Execute(t.Context(), call(), ten, db.RowOptions{Format: db.Arrays, MaxRows: 3}, nil)
	requireError(t, err, db.ClassTookEffect, contract.CodeResultTooLarge)
	twice := b.compile("SELECT 1 AS n, 2 AS n")
	_, err = b.execute(twice)
	requireError(t, err, db.ClassTookEffect, contract.CodeDuplicateColumn)
	if h.Has.Returning {
		insert := b.compile("INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id")
		set, err := b.db.Execute(t.Context(), call(), insert, db.RowOptions{Format: db.Arrays, MaxRows: 1}, nil)
		requireError(t, err, db.ClassTookEffect, contract.CodeResultTooLarge)
		require.EqualValues(t, 2, set.RowsAffected)
		require.Nil(t, set.Columns)
		require.Equal(t, 2, b.count("item"))
	}
	set, err := b.execute(ten)
	require.NoError(t, err)
	require.EqualValues(t, 10, set.RowCount, "the next call works")
}

func testOutsideBegin(t *testing.T, h Harness) {
	b := setup(t, h)
	refusal := errors.New("no longer wanted")
	c := call()
	c.Begin = func() error { return refusal }
	x := b.once("job")
	_, err := x.run(t.Context(), b.db, c, b.item(1, "a"))
	require.Same(t, refusal, err)
	require.Zero(t, x.ended)
	require.Nil(t, b.row("job"))
	require.Equal(t, 0, b.count("item"))
	require.Zero(t, b.db.Stats().InUse)
}

func testOutsideTimeout(t *testing.T, h Harness) {
	h.Needs(t, LacksCancel)
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	x := b.once("job")
	started := time.Now()
	_, err := x.run(t.Context(), b.db, db.Call{Label: "slow", Timeout: short}, b.compile(h.SQL.Slow))
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	require.Equal(t, 1, x.ended)
	require.ErrorIs(t, x.got, err)
	require.Less(t, time.Since(started), testTimeout/2)
	require.Equal(t, "failed", b.row("job").Status)
	requireStopped(b)
}

func testOutsideCancel(t *testing.T, h Harness) {
	h.Needs(t, LacksCancel)
	b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	x := b.once("job")
	_, err := x.run(ctx, b.db, call(), b.compile(h.SQL.Slow))
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.Equal(t, 1, x.ended)
	require.Equal(t, "failed", b.row("job").Status, "the end is written although no caller waits for it")
	requireStopped(b)
	_, err = b.once("other").run(t.Context(), b.db, call(), b.item(1, "a"))
	require.NoError(t, err, "the next call works")
}

// testOutsideSessions leaves state behind in a session and looks for it in the next jobs.
func testOutsideSessions(t *testing.T, h Harness) {
	for _, leak := range h.Leaks {
		t.Run(leak.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, leak.Needs)
			b := setup(t, h, func(o *db.Options) { o.Pool.Max = h.SmallestPool })
			read, inside := look(b, leak)
			for i, sql := range leak.Set {
				_, _ = b.execute(&dialect.Compiled{SQL: sql})
				_, _ = b.once(fmt.Sprintf("leak-%d", i)).run(t.Context(), b.db, call(), &dialect.Compiled{SQL: sql})
			}
			for range 2 {
				againRead, againInside := look(b, leak)
				require.Equal(t, read, againRead, "seen by a read")
				require.Equal(t, inside, againInside, "seen in a transaction")
			}
		})
	}
}

// testOnce executes a job once: its begin is on record before, its end after, and its key is taken for good.
func testOnce(t *testing.T, h Harness) {
	b := setup(t, h)
	other := b.second()
	x := b.once("job")
	x.inEnd = func(set db.ResultSet, err error) {
		require.NoError(t, err)
		require.EqualValues(t, 1, set.RowsAffected)
		row, err := other.Lookup(t.Context(), "job")
		require.NoError(t, err)
		requireEntry(t, started("job"), row)
		n, err := b.tryRead(other, "SELECT count(*) AS n FROM item")
		require.NoError(t, err)
		require.Contains(t, string(n.Rows), "1", "the effect is there before its end is on record")
	}
	_, err := x.run(t.Context(), b.db, call(), b.item(1, "a"))
	require.NoError(t, err)
	require.Equal(t, 1, x.ended)
	requireEntry(t, ending("job", "succeeded"), b.row("job"))

	for _, d := range []db.Database{b.db, other} {
		again := b.once("job")
		require.Eventually(t, func() bool { // the clean-up of the session before, which lets the lock go, is not waited for
			_, err = again.run(t.Context(), d, call(), b.item(2, "b"))
			return db.ClassOf(err) != db.ClassLocked
		}, testTimeout, 10*time.Millisecond)
		require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
		require.Zero(t, again.ended)
	}
	_, err = b.transact(sealed("job"), b.item(3, "c"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	require.Equal(t, 1, b.count("item"))
	requireEntry(t, ending("job", "succeeded"), b.row("job"))
}

func testOnceFails(t *testing.T, h Harness) {
	b := setup(t, h)
	b.exec(insertItem, named{"id": number(1), "name": text("a")})
	x := b.once("job")
	_, err := x.run(t.Context(), b.db, call(), b.item(2, "a"))
	requireError(t, err, db.ClassPermanent, contract.CodeUnique)
	require.ErrorIs(t, x.got, err)
	requireEntry(t, ending("job", "failed"), b.row("job"))
	_, err = b.once("next").run(t.Context(), b.db, call(), b.item(2, "b"))
	require.NoError(t, err)
}

// testHeld looks at a job from another runner while it is executed: the execution goes on, as far as the engine knows.
func testHeld(t *testing.T, h Harness) {
	h.Needs(t, LacksAppLocks)
	b := setup(t, h)
	other := b.second()
	x := b.once("job")
	x.inEnd = func(db.ResultSet, error) {
		second := b.once("job")
		_, err := second.run(t.Context(), other, call(), b.item(2, "b"))
		require.Zero(t, second.ended)
		if !h.Has.JobLocks {
			require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
			return
		}
		require.Equal(t, db.ClassLocked, db.ClassOf(err), "%v", err)
		for range 2 {
			row, written, err := other.RecordEnd(t.Context(), ending("job", "unknown"), false)
			require.NoError(t, err)
			require.False(t, written)
			require.Equal(t, db.StatusStarted, row.Status)
		}
		row, written, err := other.RecordEnd(t.Context(), ending("another", "unknown"), false)
		require.NoError(t, err)
		require.False(t, written)
		require.Nil(t, row)
	}
	_, err := x.run(t.Context(), b.db, call(), b.item(1, "a"))
	require.NoError(t, err)
	requireEntry(t, ending("job", "succeeded"), b.row("job"))
	require.Equal(t, 1, b.count("item"))
}

// testEndOvertaken writes another end before the execution's own: the first one stays.
func testEndOvertaken(t *testing.T, h Harness) {
	b := setup(t, h)
	other := b.second()
	x := b.once("job")
	x.inEnd = func(db.ResultSet, error) {
		_, written, err := other.RecordEnd(t.Context(), ending("job", "unknown"), true)
		require.NoError(t, err)
		require.True(t, written)
	}
	_, err := x.run(t.Context(), b.db, call(), b.item(1, "a"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	requireEntry(t, ending("job", "unknown"), b.row("job"))
	require.Equal(t, 1, b.count("item"))
}

// testLockLetGo looks whether a lock stays behind, however an execution ended.
func testLockLetGo(t *testing.T, h Harness) {
	h.Needs(t, LacksAppLocks)
	b := setup(t, h)
	other := b.second()
	_, _, err := b.db.Record(t.Context(), started("taken"))
	require.NoError(t, err)
	_, err = b.once("taken").run(t.Context(), b.db, call(), b.item(1, "a"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	concludes := func(job string) {
		require.Eventually(t, func() bool { // the session's clean-up, which lets the lock go, is not waited for
			_, written, err := other.RecordEnd(t.Context(), ending(job, "unknown"), false)
			return err == nil && written
		}, testTimeout, 10*time.Millisecond, "the row of %s says started and no session executes it", job)
	}
	concludes("taken")
	require.Equal(t, 0, b.count("item"))

	if h.SQL.Ledger == "" {
		return
	}
	for i, stmt := range []*dialect.Compiled{b.item(1, "a"), b.item(1, "a"), {SQL: "SELECT 1 AS n FROM"}} {
		job := fmt.Sprintf("job-%d", i)
		_, _ = b.once(job).run(t.Context(), b.db, call(), stmt)
		b.exec("UPDATE " + h.SQL.Ledger + " SET status = 'started' WHERE job_id = '" + job + "'")
		concludes(job)
	}
}

// testOnceRace executes the same job on several runners at the same time.
func testOnceRace(t *testing.T, h Harness) { race(t, h, 4, 0) }

// testMixedRace lets statements and transactions with the same job's id meet: the ledger's key lets one of them through.
func testMixedRace(t *testing.T, h Harness) { race(t, h, 2, 2) }

func race(t *testing.T, h Harness, statements, transactions int) {
	h.Needs(t, LacksAppLocks)
	const rounds = 10
	b := setup(t, h)
	both := []db.Database{b.db, b.second()}
	for round := range rounds {
		job := fmt.Sprintf("job-%d", round)
		ends := make([]error, statements+transactions)
		var wg sync.WaitGroup
		for r := range ends {
			d, stmt := both[r%2], b.item(100*round+r, fmt.Sprintf("%s by %d", job, r))
			if r < statements {
				wg.Go(func() { _, ends[r] = b.once(job).run(t.Context(), d, call(), stmt) })
			} else {
				wg.Go(func() { _, ends[r] = b.transactOn(d, sealed(job), stmt) })
			}
		}
		wg.Wait()
		won := 0
		for _, err := range ends {
			if err == nil {
				won++
				continue
			}
			require.Contains(t, []db.Class{db.ClassAlreadyRecorded, db.ClassLocked}, db.ClassOf(err), "%v", err)
		}
		require.Equal(t, 1, won)
		require.Equal(t, round+1, b.count("item"))
		require.Equal(t, "succeeded", b.row(job).Status)
	}
}

func testConclude(t *testing.T, h Harness) {
	b := setup(t, h)
	conclude := func(end *db.Entry, own bool) (*db.Entry, bool) {
		t.Helper()
		row, written, err := b.db.RecordEnd(t.Context(), end, own)
		require.NoError(t, err)
		return row, written
	}
	row, written := conclude(ending("job", "failed"), true)
	require.False(t, written)
	require.Nil(t, row, "there is none")
	for _, own := range []bool{true, false} {
		job := fmt.Sprintf("job-%v", own)
		_, inserted, err := b.db.Record(t.Context(), started(job))
		require.NoError(t, err)
		require.True(t, inserted)
		strange := ending(job, "unknown")
		strange.Sequence++
		row, written = conclude(strange, own)
		require.False(t, written, "it is another message's")
		requireEntry(t, started(job), row)

		row, written = conclude(ending(job, "unknown"), own)
		require.True(t, written)
		requireEntry(t, ending(job, "unknown"), row)
		for _, later := range []bool{true, false} {
			row, written = conclude(ending(job, "succeeded"), later)
			require.False(t, written, "the first writer wins")
			requireEntry(t, ending(job, "unknown"), row)
		}
		requireEntry(t, ending(job, "unknown"), b.row(job))
	}
}
