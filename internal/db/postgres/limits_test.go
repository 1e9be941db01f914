package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// TestCancelStops looks into the server: what was cancelled does not go on, and a storm of cancelled work never
// takes more sessions than the pool may have.
func TestCancelStops(t *testing.T) {
	t.Parallel()
	const conns = 3
	b := setup(t, func(o *db.Options) { o.Pool.Max = conns })
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begin := func() error { time.AfterFunc(20*time.Millisecond, cancel); return nil }
			_, _ = b.db.Read(ctx, db.Call{Timeout: time.Minute, Begin: begin},
				&dialect.Compiled{SQL: "SELECT pg_sleep(100)::text AS n"}, objects())
		})
	}
	go func() { wg.Wait(); close(stop) }()
	most := 0
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		default:
			most = max(most, b.sessions("true"))
		}
	}
	require.LessOrEqual(t, most, conns)
	eventually(t, func() bool { return b.sessions("state = 'active'") == 0 }, "the server goes on")
	_, err := b.read("SELECT 1 AS n")
	require.NoError(t, err)
}

// TestServerTimeout lets the server's own limit end a statement.
func TestServerTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Limits.StatementTimeout = 300 * time.Millisecond })
	_, err := b.read("SELECT pg_sleep(100)::text AS n")
	e := requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	require.Equal(t, "57014", e.EngineCode)
	_, err = b.transact(sealed("job"), insertOne, "SELECT pg_sleep(100)::text AS n")
	e = requireError(t, err, db.ClassTimeout, contract.CodeTimeout)
	require.Equal(t, 1, e.Statement)
	require.Equal(t, 0, b.effects())
}

// TestIdleInTransaction lets the seal take longer than the server waits.
func TestIdleInTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Limits.IdleInTransaction = 200 * time.Millisecond })
	_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
		eventually(t, func() bool { return b.sessions("state = 'idle in transaction'") == 0 }, "the server waits on")
		return entry("job"), nil
	}, insertOne)
	require.Contains(t, []db.Class{db.ClassLost, db.ClassUnknown}, db.ClassOf(err), "%v", err)
	require.Equal(t, 0, b.effects())
}

// TestLimitsProved asks each session for its limits, before and after a job that changed them.
func TestLimitsProved(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	const look = `SELECT current_setting('statement_timeout') AS a, current_setting('lock_timeout') AS b,
		current_setting('idle_in_transaction_session_timeout') AS c, current_setting('client_connection_check_interval') AS d,
		current_setting('application_name') AS e`
	const want = `[{"a":%q,"b":"10s","c":"1min","d":"2s","e":"dbrunner/runner-1"}]`
	for range 2 {
		for timeout, limit := range map[time.Duration]string{time.Minute: "59900ms", 7 * time.Second: "6900ms"} {
			set, err := b.db.Read(t.Context(), db.Call{Timeout: timeout}, &dialect.Compiled{SQL: look}, objects())
			require.NoError(t, err)
			require.JSONEq(t, fmt.Sprintf(want, limit), string(set.Rows), "timeout %v", timeout)
		}
		_, err := b.transact(nil, "SET statement_timeout = 0", "SET lock_timeout = 0", "SET application_name = 'x'")
		require.NoError(t, err)
	}
}

// TestLabel names the job in the session while it runs, where that is wanted.
func TestLabel(t *testing.T) {
	t.Parallel()
	const look = "SELECT current_setting('application_name') AS n"
	b := setup(t, func(o *db.Options) { o.Settings = map[string]string{"label_sessions": "true"}; o.Pool.Max = 1 })
	set, err := b.db.Read(t.Context(), db.Call{Label: "order-1'; x", Timeout: testTimeout}, &dialect.Compiled{SQL: look}, objects())
	require.NoError(t, err)
	require.JSONEq(t, `[{"n":"dbrunner:order-1x"}]`, string(set.Rows))
	sets, err := b.transact(nil, look)
	require.NoError(t, err)
	require.JSONEq(t, `[{"n":"dbrunner:job-1"}]`, string(sets[0].Rows))
	require.Equal(t, 1, b.sessions("application_name = 'dbrunner/runner-1'"))
}

// TestOverflow asks for far more than the caps: the rest is not read, and the statement stops.
func TestOverflow(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	giant := &dialect.Compiled{SQL: "SELECT generate_series(1, 100000000) AS n, repeat('x', 1000) AS v"}
	for name, opts := range map[string]db.RowOptions{
		"rows":  {Format: db.Objects, MaxRows: 10},
		"bytes": {Format: db.Arrays, MaxBytes: 100000},
	} {
		started := time.Now()
		_, err := b.db.Read(t.Context(), call(), giant, opts)
		requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
		require.Less(t, time.Since(started), 10*time.Second, name)
		tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: insertOne}, giant}, Expect: make([]*db.Range, 2)}
		_, err = b.db.Transact(t.Context(), call(), tx, opts, sealed("job"))
		e := requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
		require.Equal(t, 1, e.Statement)
	}
	require.Equal(t, 0, b.effects())
	eventually(t, func() bool { return b.sessions("state = 'active'") == 0 }, "the server goes on")
}

// TestOverflowSmall goes a little over: the session is kept.
func TestOverflowSmall(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	pid := func() string {
		set, err := b.read("SELECT pg_backend_pid() AS n")
		require.NoError(t, err)
		return string(set.Rows)
	}
	before := pid()
	for _, sql := range []string{"SELECT generate_series(1, 20) AS n", "SELECT 1 AS n, 2 AS n"} {
		_, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Objects, MaxRows: 10})
		require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
		_, err = b.db.Transact(t.Context(), call(), transaction(insertOne, sql), db.RowOptions{Format: db.Objects, MaxRows: 10}, nil)
		require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
	}
	require.Equal(t, before, pid())
	require.Equal(t, 0, b.effects())
}

// TestGiantField refuses a field before it is in memory.
func TestGiantField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT repeat('x', 100000000) AS v"},
		db.RowOptions{Format: db.Objects, MaxBytes: 1 << 20})
	requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	set, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT repeat('ab', 400000)::bytea AS v"},
		db.RowOptions{Format: db.Objects, MaxBytes: 1100000})
	require.NoError(t, err, "hexadecimal digits are longer than base64")
	require.Greater(t, len(set.Rows), 1000000)
}

// TestLargePipeline sends and receives far more than sockets hold, at the same time: neither side waits for
// the other indefinitely.
func TestLargePipeline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	big := strings.Repeat("x", 1<<20)
	tx := &db.Transaction{}
	for range 30 {
		tx.Statements = append(tx.Statements, &dialect.Compiled{
			SQL: "SELECT $1::text AS v", Args: []dialect.Value{{Kind: dialect.String, Text: big}},
		})
		tx.Expect = append(tx.Expect, nil)
	}
	for range 2 {
		sets, err := b.db.Transact(t.Context(), call(), tx, objects(), nil)
		require.NoError(t, err)
		require.Len(t, sets, 30)
		for _, set := range sets {
			require.Len(t, set.Rows, len(big)+len(`[{"v":""}]`))
		}
	}
	large := entry("large")
	large.Answer = []byte(strings.Repeat("y", 8<<20))
	_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) { return large, nil }, insertOne)
	require.NoError(t, err)
	row, err := b.db.Lookup(t.Context(), "large")
	require.NoError(t, err)
	require.Equal(t, large.Answer, row.Answer)
}

// TestManyStatements runs more texts than a session keeps, twice each, and counts what the server keeps.
func TestManyStatements(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	for i := range 600 {
		for range 3 {
			set, err := b.read(fmt.Sprintf("SELECT %d AS n", i))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf(`[{"n":%d}]`, i), string(set.Rows))
		}
	}
	set, err := b.read("SELECT count(*)::int AS n FROM pg_prepared_statements")
	require.NoError(t, err)
	var n int
	_, err = fmt.Sscanf(string(set.Rows), `[{"n":%d}]`, &n)
	require.NoError(t, err)
	require.LessOrEqual(t, n, 257)
	require.Greater(t, n, 200)
}
