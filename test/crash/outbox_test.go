package crash

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// withOutbox gives database shop an outbox, whose rows become jobs of shop itself. The relay reaches it at url.
func (w *world) withOutbox(url string) {
	w.t.Helper()
	ddl, err := manager.OutboxDDL("postgres")
	require.NoError(w.t, err)
	w.exec(ddl)
	w.set("SHOP_OUTBOX_CONNECTION_STRING="+url, "SHOP_OUTBOX_TARGETS=jobs.shop.transaction")
}

const enqueue = `INSERT INTO dbrunner.outbox (id, target, body) VALUES ($1, 'jobs.shop.transaction',
	'{"statements":[{"sql":"INSERT INTO effects (name) VALUES (''' || $1 || ''')"}]}')`

// enqueued inserts a row in a transaction that commits, and others in transactions that do not.
func (w *world) enqueued(id string) {
	w.t.Helper()
	ctx := w.t.Context()
	for _, end := range []func(pgx.Tx) error{
		func(tx pgx.Tx) error { return tx.Rollback(ctx) },
		func(tx pgx.Tx) error { return tx.Commit(ctx) },
	} {
		tx, err := w.pool.Begin(ctx)
		require.NoError(w.t, err)
		_, err = tx.Exec(ctx, enqueue, id)
		require.NoError(w.t, err)
		_, err = tx.Exec(ctx, enqueue, id+"-never")
		require.NoError(w.t, err)
		_, err = tx.Exec(ctx, `DELETE FROM dbrunner.outbox WHERE id = $1`, id+"-never")
		require.NoError(w.t, err)
		require.NoError(w.t, end(tx))
	}
}

// relayed waits until no row is left.
func (w *world) relayed() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var n int
		err := w.pool.QueryRow(w.t.Context(), `SELECT count(*) FROM dbrunner.outbox WHERE error IS NULL`).Scan(&n)
		return err == nil && n == 0
	}, testTimeout, 20*time.Millisecond, "rows are left in the outbox")
}

// TestOutboxKilledAtEachStep: whatever dies, a row that was committed has one effect, and one that was rolled back none.
func TestOutboxKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"outbox_claimed", "outbox_posted", "outbox_published", "outbox_deleted"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			url := dbtest.Postgres(t)
			node := bustest.Server(t)
			w := setup(t, node.ClientURL(), url, url)
			w.withOutbox(url)
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.enqueued("a1")
			first.died()
			w.start("second")
			require.Equal(t, "succeeded", w.stored("a1").Status)
			w.relayed()
			w.drained()
			require.Equal(t, 1, w.effects("a1"))
			require.Zero(t, w.effects("a1-never"))
			require.Empty(t, w.deadLetters())
		})
	}
}

// TestOutboxLinksCut cuts the relay's link around each of its statements, and the link to NATS before the confirmation.
func TestOutboxLinksCut(t *testing.T) {
	t.Parallel()
	const claims, deletes = "UPDATE dbrunner.outbox o SET", "DELETE FROM dbrunner.outbox"
	for name, cut := range map[string]func(*cutproxy.Proxy) <-chan struct{}{
		"before the claim":  func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Text(claims)) },
		"after the claim":   func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text(claims)) },
		"before the DELETE": func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Text(deletes)) },
		"after the DELETE":  func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text(deletes)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.Postgres(t)
			config, err := pgx.ParseConfig(url)
			require.NoError(t, err)
			proxy := cutproxy.New(t, fmt.Sprintf("%s:%d", config.Host, config.Port))
			w := setup(t, bustest.Server(t).ClientURL(), url, url)
			w.withOutbox(proxy.URL(url))
			w.start("r")
			w.serving()
			w.enqueued("warm")
			require.Equal(t, "succeeded", w.stored("warm").Status)
			w.relayed()
			happened := cut(proxy)
			w.enqueued("a1")
			<-happened
			require.Equal(t, "succeeded", w.stored("a1").Status)
			w.relayed()
			w.drained()
			require.Equal(t, 1, w.effects("a1"))
			require.Empty(t, w.deadLetters())
		})
	}
}

// TestOutboxCutAroundTheCallersCommit: the row has one effect if and only if the transaction of its caller is committed.
func TestOutboxCutAroundTheCallersCommit(t *testing.T) {
	t.Parallel()
	url := dbtest.Postgres(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	proxy := cutproxy.New(t, fmt.Sprintf("%s:%d", config.Host, config.Port))
	w := setup(t, bustest.Server(t).ClientURL(), url, url)
	w.withOutbox(url)
	w.exec(`CREATE TABLE orders (id text PRIMARY KEY)`)
	w.start("r")
	w.serving()
	for name, cut := range map[string]func(*cutproxy.Proxy) <-chan struct{}{
		"before": func(p *cutproxy.Proxy) <-chan struct{} { return p.CutBefore(cutproxy.Text("commit")) },
		"after":  func(p *cutproxy.Proxy) <-chan struct{} { return p.CutAfter(cutproxy.Text("commit")) },
		"late":   func(p *cutproxy.Proxy) <-chan struct{} { return p.CutLate(cutproxy.Text("commit"), time.Second) },
		"none":   nil,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		caller, err := pgx.Connect(ctx, proxy.URL(url))
		require.NoError(t, err)
		tx, err := caller.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `INSERT INTO orders VALUES ($1)`, name)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, enqueue, name)
		require.NoError(t, err)
		if cut == nil {
			require.NoError(t, tx.Commit(ctx))
		} else {
			happened := cut(proxy)
			require.Error(t, tx.Commit(ctx))
			<-happened
		}
		_ = caller.Close(ctx)
		cancel()
		proxy.Disarm()
	}
	require.Eventually(t, func() bool { // no transaction of a caller is under way
		var n int
		err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&n)
		return err == nil && n == 0
	}, testTimeout, 20*time.Millisecond)
	rows, err := w.pool.Query(t.Context(), `SELECT id FROM orders`)
	require.NoError(t, err)
	committed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, committed, "none")
	require.Contains(t, committed, "after")
	require.NotContains(t, committed, "before")
	w.relayed()
	for _, id := range committed {
		require.Equal(t, "succeeded", w.stored(id).Status)
		require.Equal(t, 1, w.effects(id))
	}
	w.drained()
	var n int
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT count(*) FROM effects`).Scan(&n))
	require.Len(t, committed, n, "no other effect")
}

// TestOutboxNATSLostBeforeTheConfirmation restarts NATS between publish and confirmation: before the job is sent, or after the
// stream has stored it.
func TestOutboxNATSLostBeforeTheConfirmation(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"outbox_publishing", "outbox_posted"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.withOutbox(w.pool.Config().ConnString())
			first := w.start("first", "DBRUNNER_FREEZE_AT="+place)
			w.serving()
			w.enqueued("a1")
			first.frozen()
			w.node.Restart()
			first.thaw()
			require.Equal(t, "succeeded", w.stored("a1").Status)
			w.relayed()
			w.drained()
			require.Equal(t, 1, w.effects("a1"))
			require.Empty(t, w.deadLetters())
		})
	}
}

// TestOutboxFrozenRelay freezes a relay between claim and publish for longer than the ledger keeps a row. Another one publishes
// the row meanwhile, and its ledger row is gone when the first one publishes it as well.
func TestOutboxFrozenRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const retention = 16 * time.Second
	w.withOutbox(w.pool.Config().ConnString())
	w.set("SHOP_LEDGER_RETENTION="+retention.String(), "SHOP_LEDGER_SWEEP_INTERVAL=1s", "RUNNER_TOPOLOGY_RESULTS_MAX_AGE=5s", "RUNNER_TOPOLOGY_RESULTS_MIN_AGE=1s",
		"RUNNER_TOPOLOGY_JOBS_DUPLICATE_WINDOW=1s")
	w.start("second")
	w.serving()
	first := w.start("first", "DBRUNNER_FREEZE_AT=outbox_publishing")
	id, started := "", time.Now()
	for i := 0; !first.isFrozen(); i++ { // until the first one has claimed a row
		id, started = fmt.Sprintf("a%d", i), time.Now()
		w.exec(enqueue, id)
		require.Eventually(t, func() bool { return first.isFrozen() || w.effects(id) == 1 }, testTimeout, 10*time.Millisecond)
	}
	require.Eventually(t, func() bool { return w.effects(id) == 1 }, testTimeout, 20*time.Millisecond, "the other relay publishes it")
	require.Eventually(t, func() bool {
		var n int
		err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM dbrunner.ledger WHERE job_id = $1`, id).Scan(&n)
		return err == nil && n == 0 && time.Since(started) > retention
	}, testTimeout, 50*time.Millisecond, "the ledger has not forgotten the job")
	first.thaw()
	require.Eventually(t, func() bool { return len(w.deadLetters()) == 1 }, testTimeout, 50*time.Millisecond)
	deadLetter := w.deadLetters()[0]
	require.Equal(t, "stored_late", deadLetter.Get("Dbrunner-Reason"))
	require.Equal(t, id, deadLetter.Get("Dbrunner-Job-Id"))
	w.drained()
	require.Equal(t, 1, w.effects(id), "no second effect")
}

// isFrozen reports whether the process is stopped.
func (r *runner) isFrozen() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	_, state, found := strings.Cut(string(stat), ") ")
	return err == nil && found && state[0] == 'T'
}
