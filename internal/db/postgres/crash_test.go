package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
)

// proxied opens a database behind a proxy that can cut.
func proxied(t *testing.T, change ...func(*db.Options)) (*bench, *cutproxy.Proxy) {
	t.Helper()
	var proxy *cutproxy.Proxy
	change = append([]func(*db.Options){func(o *db.Options) {
		u, err := url.Parse(o.ConnectionString)
		require.NoError(t, err)
		proxy = cutproxy.New(t, u.Host)
		o.ConnectionString = proxy.URL(o.ConnectionString)
	}}, change...)
	return setup(t, change...), proxy
}

const insertOne = "INSERT INTO effect (id, note) VALUES (1, 'x')"

// TestCommitCut cuts the link just before and just after the server sees COMMIT. The engine does not know what
// happened and reports it; writing the same key again reveals the outcome, both times.
func TestCommitCut(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]struct {
		arm       func(*cutproxy.Proxy) <-chan struct{}
		reset     bool
		committed bool
	}{
		"before":       {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Commit) }, false, false},
		"after":        {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Commit) }, false, true},
		"before reset": {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Commit) }, true, false},
		"after reset":  {func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Commit) }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := proxied(t)
			proxy.Reset(cut.reset)
			happened := cut.arm(proxy)
			_, err := b.transact(sealed("job"), insertOne)
			e := requireError(t, err, db.ClassUnknown, contract.CodeConnectionLost)
			require.NotContains(t, e.Message, "nothing is committed")
			<-happened

			tombstone := entry("job")
			tombstone.Status = "failed"
			row, inserted, err := b.db.Record(t.Context(), tombstone)
			require.NoError(t, err)
			require.Equal(t, !cut.committed, inserted)
			if cut.committed {
				require.Equal(t, "succeeded", row.Status)
				require.Equal(t, 1, b.effects())
			} else {
				require.Equal(t, 0, b.effects())
			}
			_, err = b.transact(sealed("job"), insertOne)
			if cut.committed { // the effect's own key is there already
				requireError(t, err, db.ClassPermanent, contract.CodeUnique)
			} else {
				requireError(t, err, db.ClassAlreadyRecorded, contract.CodeUnique)
			}
		})
	}
}

// TestCommitCutRepeat repeats the whole transaction after an unknown end, as a runner does: one effect.
func TestCommitCutRepeat(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO effect (id, note) SELECT count(*) + 1, 'x' FROM effect"
	b, proxy := proxied(t)
	proxy.CutAfter(cutproxy.Commit)
	_, err := b.transact(sealed("job"), insert)
	requireError(t, err, db.ClassUnknown, contract.CodeConnectionLost)
	_, err = b.transact(sealed("job"), insert)
	requireError(t, err, db.ClassAlreadyRecorded, contract.CodeUnique)
	require.Equal(t, 1, b.effects())
}

// TestCutBeforeCommit loses the link while COMMIT is not sent: nothing is committed, and that is said.
func TestCutBeforeCommit(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	for _, arm := range []func(func(cutproxy.Message) bool) <-chan struct{}{proxy.CutBefore, proxy.CutAfter} {
		arm(cutproxy.Text("INTO effect"))
		_, err := b.transact(sealed("job"), insertOne)
		requireError(t, err, db.ClassLost, contract.CodeConnectionLost)
		arm(cutproxy.Text("SELECT 42"))
		_, err = b.read("SELECT 42 AS n")
		requireError(t, err, db.ClassLost, contract.CodeConnectionLost)
	}
	require.Equal(t, 0, b.effects())
	_, err := b.transact(sealed("job"), insertOne)
	require.NoError(t, err)
}

// TestRecordCut loses the link of a Record: it may have happened.
func TestRecordCut(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	proxy.CutAfter(cutproxy.Text("INTO dbrunner.ledger"))
	_, _, err := b.db.Record(t.Context(), entry("job"))
	requireError(t, err, db.ClassUnknown, contract.CodeConnectionLost)
	_, inserted, err := b.db.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	require.False(t, inserted)
}

// TestCleanUpCut loses the link in the clean-up behind an answered COMMIT: the job succeeded, the session goes.
func TestCleanUpCut(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t, func(o *db.Options) { o.Pool.Max = 1 })
	happened := proxy.CutBefore(cutproxy.Text("UNLISTEN"))
	_, err := b.transact(sealed("job"), insertOne)
	require.NoError(t, err)
	<-happened
	set, err := b.read("SELECT count(*)::int AS n FROM effect")
	require.NoError(t, err)
	require.JSONEq(t, `[{"n":1}]`, string(set.Rows))
}

// TestBlackHole commits into a network that swallows everything: the call ends soon after its time, unknown.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	defer proxy.Unblock()
	started := time.Now()
	_, err := b.db.Transact(t.Context(), db.Call{Timeout: time.Second}, transaction(insertOne), objects(),
		func(context.Context, []db.ResultSet) (*db.Entry, error) {
			proxy.Block()
			return entry("job"), nil
		})
	requireError(t, err, db.ClassUnknown, contract.CodeConnectionLost)
	require.Less(t, time.Since(started), 10*time.Second)
	proxy.Unblock()
	_, _, err = b.db.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	_, err = b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
}

// TestFenceTimeout lets the time end while the fence waits for another transaction: the server's answer to the
// cancelled COMMIT is definite.
func TestFenceTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.admin.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO dbrunner.ledger (namespace, database_name, job_id, status, answer, sequence, message_time, runner)
		VALUES ('dbrunner', 'test_db', 'job', 'failed', '', 1, 1, 'r')`)
	require.NoError(t, err)
	_, err = b.db.Transact(t.Context(), db.Call{Timeout: time.Second}, transaction(insertOne), objects(), sealed("job"))
	requireError(t, err, db.ClassTimeout, contract.CodeTimeout)

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = b.db.Transact(ctx, call(), transaction(insertOne), objects(), sealed("job"))
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.NoError(t, tx.Rollback(t.Context()))
	_, err = b.transact(sealed("job"), insertOne)
	require.NoError(t, err)
	require.Equal(t, 1, b.effects())
}

// own is a server of the test's own with the engine on it.
func own(t *testing.T, settings ...string) (*dbtest.PostgresServer, *bench) {
	t.Helper()
	server := dbtest.StartPostgres(t, settings...)
	opts := options(t)
	opts.ConnectionString = server.Database(t)
	b := &bench{t: t, opts: opts, admin: connect(t, opts.ConnectionString)}
	b.sql("CREATE TABLE effect (id bigint PRIMARY KEY, note text)")
	b.db = b.open(opts)
	require.NoError(t, b.db.Probe(t.Context()))
	return server, b
}

// fill makes the pool hold several idle sessions.
func (b *bench) fill(n int) {
	b.t.Helper()
	end := make(chan error, n)
	for range n {
		go func() {
			_, err := b.read("SELECT pg_sleep(0.2)::text AS n")
			end <- err
		}()
	}
	for range n {
		require.NoError(b.t, <-end)
	}
}

// TestRestart stops the server in both ways under idle sessions and under work.
func TestRestart(t *testing.T) {
	t.Parallel()
	server, b := own(t)
	for _, mode := range []dbtest.StopMode{dbtest.StopFast, dbtest.StopImmediate} {
		b.fill(5)
		end := make(chan error, 1)
		go func() {
			_, err := b.transact(sealed("job"), insertOne, "SELECT pg_sleep(60)::text AS n")
			end <- err
		}()
		require.Eventually(t, func() bool { return b.db.Stats().InUse == 1 }, testTimeout, time.Millisecond)
		server.Stop(t, mode)
		err := <-end
		require.Contains(t, []db.Class{db.ClassLost, db.ClassUnavailable}, db.ClassOf(err), "%v", err)
		err = b.db.Probe(t.Context())
		require.Contains(t, []db.Class{db.ClassLost, db.ClassUnavailable}, db.ClassOf(err), "%v", err)
		requireError(t, b.db.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
		server.Start(t)
		require.NoError(t, b.db.Probe(t.Context()), "no session of before is met")
		b.fill(5)
	}
	b.admin = connect(t, b.opts.ConnectionString)
	require.Equal(t, 0, b.effects())
}

// TestRestartIdle meets, after a restart, only sessions that are gone: at most one call pays for it.
func TestRestartIdle(t *testing.T) {
	t.Parallel()
	server, b := own(t)
	b.fill(5)
	server.Stop(t, dbtest.StopImmediate)
	server.Start(t)
	failures := 0
	for range 10 {
		if _, err := b.read("SELECT 1 AS n"); err != nil {
			require.Equal(t, db.ClassLost, db.ClassOf(err), "%v", err)
			failures++
		}
	}
	require.LessOrEqual(t, failures, 1)
}

// TestPaused stops the whole server in its tracks: calls still end at their time.
func TestPaused(t *testing.T) {
	t.Parallel()
	server, b := own(t)
	b.fill(2)
	server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the wait for a session is the context's
	defer cancel()
	started := time.Now()
	_, err := b.db.Read(ctx, db.Call{Timeout: time.Second}, &dialect.Compiled{SQL: "SELECT 1 AS n"}, objects())
	took := time.Since(started)
	server.Resume(t)
	require.Contains(t, []db.Class{db.ClassTimeout, db.ClassCanceled}, db.ClassOf(err), "%v", err)
	require.Less(t, took, 8*time.Second)
	eventually(t, func() bool { _, err := b.read("SELECT 1 AS n"); return err == nil }, "the server is back")
}

// TestTerminated ends the sessions as an administrator would.
func TestTerminated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(5)
	b.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	failures := 0
	for range 10 {
		if _, err := b.transact(nil, "SELECT 1 AS n"); err != nil {
			requireError(t, err, db.ClassLost, contract.CodeConnectionLost)
			failures++
		}
	}
	require.LessOrEqual(t, failures, 1)
}
