package postgres_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dialect"
)

// outside is an execution at most once, with what its End was called with.
type outside struct {
	b        *bench
	ended    int
	reported error
	inEnd    func()
}

func (x *outside) run(ctx context.Context, job string, timeout time.Duration, sql string) (db.ResultSet, error) {
	row := func(status string) *db.Entry {
		e := entry(job)
		e.Status = status
		return e
	}
	return x.b.db.Execute(ctx, db.Call{Label: job, Timeout: timeout}, &dialect.Compiled{SQL: sql}, objects(), &db.Once{
		Start: row(db.StatusStarted),
		End: func(_ db.ResultSet, err error) *db.Entry {
			x.ended++
			x.reported = err
			if x.inEnd != nil {
				x.inEnd()
			}
			if err != nil {
				return row("failed")
			}
			return row("succeeded")
		},
	})
}

func (b *bench) status(job string) string {
	b.t.Helper()
	row, err := b.db.Lookup(b.t.Context(), job)
	require.NoError(b.t, err)
	require.NotNil(b.t, row)
	return row.Status
}

// concluded tries to write unknown over a job's begin, as a runner that has not executed it.
func (b *bench) concluded(job string) (*db.Entry, bool) {
	b.t.Helper()
	e := entry(job)
	e.Status = "unknown"
	row, written, err := b.open(b.opts).RecordEnd(b.t.Context(), e, false)
	require.NoError(b.t, err)
	return row, written
}

// TestExecuteCut cuts the link where a statement is sent. Its outcome is unknown, and no outcome is reported.
func TestExecuteCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arm     func(*cutproxy.Proxy) <-chan struct{}
		effects int
		ended   int
	}{
		"before the statement": {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Text(insertOne)) }, 0, 0},
		"behind the statement": {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text(insertOne)) }, 1, 0},
		"before its end":       {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Text("UPDATE dbrunner.ledger")) }, 1, 1},
		"behind its end":       {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text("UPDATE dbrunner.ledger")) }, 1, 1},
		"before its begin": {func(p *cutproxy.Proxy) <-chan struct{} {
			return p.CutBefore(cutproxy.Text("INSERT INTO dbrunner.ledger"))
		}, 0, 0},
		"behind its begin": {func(p *cutproxy.Proxy) <-chan struct{} {
			return p.CutAfter(cutproxy.Text("INSERT INTO dbrunner.ledger"))
		}, 0, 0},
		"behind the job's lock": {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text("pg_try_advisory_lock")) }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := proxied(t)
			happened := c.arm(proxy)
			x := &outside{b: b}
			_, err := x.run(t.Context(), "job", testTimeout, insertOne)
			<-happened
			want := db.ClassUnknown
			if name == "behind the job's lock" {
				want = db.ClassLost
			}
			require.Equal(t, want, db.ClassOf(err), "%v", err)
			require.Equal(t, c.ended, x.ended)
			require.Equal(t, c.effects, b.effects())
			eventually(t, func() bool {
				return b.advisoryLocks() == 0
			}, "the lock goes with the session")
			if name == "behind its end" {
				require.Equal(t, "succeeded", b.status("job"))
				return
			}
			if row, err := b.db.Lookup(t.Context(), "job"); row == nil {
				require.NoError(t, err)
				_, err = x.run(t.Context(), "job", testTimeout, insertOne)
				require.NoError(t, err, "it did not start")
				require.Equal(t, 1, b.effects())
				return
			}
			require.Equal(t, db.StatusStarted, b.status("job"))
			_, err = x.run(t.Context(), "job", testTimeout, insertOne)
			require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
			eventually(t, func() bool { _, written := b.concluded("job"); return written }, "the lock goes with the session")
			require.Equal(t, c.effects, b.effects())
		})
	}
}

// TestExecuteWithoutAnAnswer loses sight of the server. The lock is held for as long as the statement goes on there.
func TestExecuteWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	x := &outside{b: b}
	done := make(chan error, 1)
	go func() {
		_, err := x.run(t.Context(), "job", time.Second, "DO $$ BEGIN FOR i IN 1..400 LOOP "+
			"BEGIN PERFORM pg_sleep(0.05); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$")
		done <- err
	}()
	eventually(t, func() bool { return b.sessions("query LIKE 'DO %' AND state = 'active'") == 1 }, "the statement runs")
	proxy.Block()
	require.Equal(t, db.ClassUnknown, db.ClassOf(<-done))
	require.Zero(t, x.ended)
	proxy.Unblock()
	require.Equal(t, 1, b.advisoryLocks())
	row, written := b.concluded("job")
	require.False(t, written, "it may still be at work")
	require.Equal(t, db.StatusStarted, row.Status)
	b.sql("SELECT pg_terminate_backend(pid) " + ownAdvisoryLocks)
	eventually(t, func() bool { _, written := b.concluded("job"); return written }, "the lock goes with the session")
}

// TestExecuteEndsBehindItsAnswer: the tag of a statement comes before its COMMIT, which may fail.
func TestExecuteEndsBehindItsAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("CREATE TABLE part (id int, effect_id bigint REFERENCES effect DEFERRABLE INITIALLY DEFERRED)")
	x := &outside{b: b}
	_, err := x.run(t.Context(), "job", testTimeout, "INSERT INTO part VALUES (1, 42)")
	requireError(t, err, db.ClassPermanent, contract.CodeForeignKey)
	require.ErrorIs(t, x.reported, err)
	require.Equal(t, "failed", b.status("job"))
	require.Zero(t, b.look("SELECT count(*) FROM part"))
}

func TestExecuteSessionEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	x := &outside{b: b}
	done := make(chan error, 1)
	go func() {
		_, err := x.run(t.Context(), "job", testTimeout, "SELECT pg_sleep(30)")
		done <- err
	}()
	eventually(t, func() bool { return b.sessions("query LIKE '%pg_sleep(30)%' AND state = 'active'") == 1 }, "the statement runs")
	row, written := b.concluded("job")
	require.False(t, written)
	require.Equal(t, db.StatusStarted, row.Status)
	b.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() " +
		"AND query LIKE 'SELECT pg_sleep(30)%' AND pid <> pg_backend_pid()")
	require.Equal(t, db.ClassUnknown, db.ClassOf(<-done))
	require.Zero(t, x.ended)
	_, written = b.concluded("job")
	require.True(t, written)
}

// TestExecuteThatTakesItsSession: the job's own text keeps its session from writing the end.
func TestExecuteThatTakesItsSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, sql := range []string{"SET ROLE pg_monitor", "SET default_transaction_read_only = on", "SELECT pg_terminate_backend(pg_backend_pid())"} {
		job := "job-" + strconv.Itoa(i)
		x := &outside{b: b}
		_, err := x.run(t.Context(), job, testTimeout, sql)
		require.Equal(t, db.ClassUnknown, db.ClassOf(err), "%s: %v", sql, err)
		require.Equal(t, db.StatusStarted, b.status(job))
		if x.ended == 0 {
			continue
		}
		e := entry(job)
		_, written, err := b.db.RecordEnd(t.Context(), e, true)
		require.NoError(t, err)
		require.True(t, written)
		require.Equal(t, "succeeded", b.status(job))
	}
}

// TestExecuteLimits looks at the limits that a statement has.
func TestExecuteLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Limits.LockTimeout = 1234 * time.Millisecond })
	setting := func(name, word string) string {
		t.Helper()
		x := &outside{b: b}
		set, err := x.run(t.Context(), name+word, 10*time.Second, "SELECT current_setting('"+name+"') AS "+word)
		require.NoError(t, err)
		return string(set.Rows)
	}
	require.JSONEq(t, `[{"v":"1234ms"}]`, setting("lock_timeout", "v"))
	require.JSONEq(t, `[{"concurrently":"0"}]`, setting("lock_timeout", "concurrently"))
	require.Contains(t, setting("statement_timeout", "v"), `"98`, "a little less than 10 s")
	require.JSONEq(t, `[{"v":"30s"}]`, setting("idle_session_timeout", "v"))
	set, err := b.read("SELECT current_setting('lock_timeout') || current_setting('idle_session_timeout') AS v")
	require.NoError(t, err)
	require.JSONEq(t, `[{"v":"1234ms0"}]`, string(set.Rows), "and they end with it")
}

func TestExecuteBehindAPooler(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.TransactionPool = true })
	x := &outside{b: b}
	_, err := x.run(t.Context(), "job", testTimeout, insertOne)
	requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
	require.Zero(t, b.effects())
}
