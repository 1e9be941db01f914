package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/postgres"
)

// TestPgBouncer runs the whole suite through a real pooler in transaction mode, which has fewer sessions than it has
// clients.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pooler := dbtest.StartPgBouncer(t, dbtest.Postgres(t))
	h := roundTripHarness()
	direct := h.Options
	h.Has.Pooled = true
	h.Options = func(t testing.TB) db.Options {
		o := direct(t)
		o.ConnectionString, o.TransactionPool = pooler.URL(t, o.ConnectionString), true
		return o
	}
	dbtest.Run(t, h)
}

// pooled opens a database behind a pooler of the test's own.
func pooled(t *testing.T, change func(*db.Options), settings ...string) *bench {
	t.Helper()
	return setup(t, func(o *db.Options) {
		pooler := dbtest.StartPgBouncer(t, o.ConnectionString, settings...)
		o.ConnectionString, o.TransactionPool = pooler.URL(t, o.ConnectionString), true
		if change != nil {
			change(o)
		}
	})
}

// TestPgBouncerShares proves that the sessions are the pooler's: more clients than it has are at work at the same time, and none
// of them meets what another one left.
func TestPgBouncerShares(t *testing.T) {
	t.Parallel()
	b := pooled(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 8, 8 }, "default_pool_size = 2")
	leave := []string{
		"SET statement_timeout = '77s'", "SET application_name = 'left'", "SELECT pg_advisory_lock(4711)",
		"SELECT pg_sleep(0.1)::text AS n",
	}
	const look = "SELECT current_setting('application_name') || ' ' || current_setting('statement_timeout') AS v, pg_sleep(0.1)::text AS n"
	end := make(chan error, 8)
	for i := range cap(end) {
		go func() {
			if i%2 == 0 {
				_, err := b.transact(nil, leave...)
				end <- err
				return
			}
			set, err := b.read(look)
			if err == nil && string(set.Rows) != `[{"v":"dbrunner/runner-1 29900ms","n":""}]` {
				err = fmt.Errorf("met what another job left: %s", set.Rows)
			}
			end <- err
		}()
	}
	most := 0
	for range cap(end) {
		most = max(most, b.look("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))
		require.NoError(t, <-end)
	}
	require.Equal(t, 8, b.db.Stats().Total)
	require.LessOrEqual(t, most, 2)
	require.Zero(t, b.advisoryLocks())
}

// TestPgBouncerUndeclared does not configure the pooler: the error names the setting.
func TestPgBouncerUndeclared(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"refuses": nil,
		"drops": {"ignore_startup_parameters = statement_timeout, lock_timeout, idle_in_transaction_session_timeout, IntervalStyle, " +
			"extra_float_digits, bytea_output, client_connection_check_interval"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.ConnectionString = dbtest.StartPgBouncer(t, o.ConnectionString, settings...).URL(t, o.ConnectionString)
			d, err := postgres.Open(o)
			require.NoError(t, err)
			defer func() { require.NoError(t, d.Close()) }()
			e := requireError(t, d.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
			require.Contains(t, e.Message, "set pooler: transaction")
		})
	}
}

// TestPgBouncerFull meets a pooler that has no connection to give.
func TestPgBouncerFull(t *testing.T) {
	t.Parallel()
	b := pooled(t, func(o *db.Options) { o.Pool.Max = 1 }, "max_client_conn = 1")
	other := b.open(b.opts)
	e := requireError(t, other.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, e.Message, "raise max_client_conn")
}

// TestPgBouncerWait has the pooler's only session taken for longer than it lets clients wait: nothing has happened, and
// the work can be repeated.
func TestPgBouncerWait(t *testing.T) {
	t.Parallel()
	b := pooled(t, nil, "default_pool_size = 1", "query_wait_timeout = 1")
	b.fill(2)
	other := b.open(b.opts)
	held, goOn, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
			close(held)
			<-goOn
			return nil, nil
		}, insertOne)
		end <- err
	}()
	<-held
	_, transacted := b.transact(sealed("job"), "INSERT INTO effect VALUES (2, 'y')")
	probed := other.Probe(t.Context())
	close(goOn)
	require.NoError(t, <-end)
	requireError(t, transacted, db.ClassLost, contract.CodeConnectionLost)
	require.Contains(t, requireError(t, probed, db.ClassUnavailable, contract.CodeUnavailable).Message, "raise default_pool_size")
	_, err := b.transact(sealed("job"), "INSERT INTO effect VALUES (2, 'y')")
	require.NoError(t, err)
	require.Equal(t, 2, b.effects())
}

// TestPgBouncerCommitCut cuts the link around COMMIT on either side of the pooler: whether it happened is not known, and
// writing the key again reveals the outcome.
func TestPgBouncerCommitCut(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, direct string) (string, *cutproxy.Proxy){
		"before the pooler": func(t *testing.T, direct string) (string, *cutproxy.Proxy) {
			through := dbtest.StartPgBouncer(t, direct).URL(t, direct)
			u, err := url.Parse(through)
			require.NoError(t, err)
			proxy := cutproxy.New(t, u.Host)
			return proxy.URL(through), proxy
		},
		"behind the pooler": func(t *testing.T, direct string) (string, *cutproxy.Proxy) {
			u, err := url.Parse(direct)
			require.NoError(t, err)
			proxy := cutproxy.New(t, u.Host)
			return dbtest.StartPgBouncer(t, proxy.URL(direct), "server_login_retry = 1").URL(t, direct), proxy
		},
	}
	for name, way := range ways {
		for _, committed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var proxy *cutproxy.Proxy
				b := setup(t, func(o *db.Options) {
					o.ConnectionString, proxy = way(t, o.ConnectionString)
					o.TransactionPool = true
				})
				arm := proxy.CutBefore
				if committed {
					arm = proxy.CutAfter
				}
				happened := arm(cutproxy.Commit)
				_, err := b.transact(sealed("job"), insertOne)
				requireError(t, err, db.ClassUnknown, contract.CodeConnectionLost)
				<-happened
				tombstone := entry("job")
				tombstone.Status = "failed"
				_, inserted, err := b.db.Record(t.Context(), tombstone)
				require.NoError(t, err)
				require.Equal(t, !committed, inserted)
				require.Equal(t, map[bool]int{true: 1}[committed], b.effects())
			})
		}
	}
}

// TestPgBouncerRestart ends the server behind the pooler, and then the pooler, under idle clients and under work.
func TestPgBouncerRestart(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	direct := server.Database(t)
	pooler := dbtest.StartPgBouncer(t, direct, "server_login_retry = 1")
	o := options(t)
	o.ConnectionString, o.TransactionPool = pooler.URL(t, direct), true
	b := &bench{t: t, opts: o, admin: connect(t, direct)}
	b.sql("CREATE TABLE effect (id bigint PRIMARY KEY, note text)")
	b.db = b.open(o)
	for name, again := range map[string]func(){
		"server": func() { server.Stop(t, dbtest.StopImmediate); server.Start(t) },
		"pooler": func() { pooler.Restart(t) },
	} {
		require.NoError(t, b.db.Probe(t.Context()))
		b.fill(5)
		end := make(chan error, 1)
		go func() {
			_, err := b.transact(sealed("job"), insertOne, "SELECT pg_sleep(60)::text AS n")
			end <- err
		}()
		require.Eventually(t, func() bool { return b.sessions("state = 'active' AND query LIKE '%pg_sleep(60)%'") == 1 }, testTimeout, time.Millisecond)
		again()
		require.Equal(t, db.ClassLost, db.ClassOf(<-end), name)
		eventually(t, func() bool { return b.db.Probe(t.Context()) == nil }, name+" is back")
		b.fill(5)
		b.admin = connect(t, direct)
		require.Zero(t, b.effects(), name)
	}
}
