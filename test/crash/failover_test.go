package crash

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/verify"
)

// pair is a primary and the standby that streams from it. Runners know both.
type pair struct {
	primary, standby *dbtest.PostgresServer
	url              string // of the database at the primary
}

func newWorldWithStandby(t *testing.T) (*world, *pair) {
	t.Helper()
	p := &pair{primary: dbtest.StartPostgres(t)}
	p.url = p.primary.Database(t)
	p.standby = p.primary.StartStandby(t)
	both := strings.Replace(p.url, p.primary.Address(), p.primary.Address()+","+p.standby.Address(), 1) + "&target_session_attrs=read-write"
	node := bustest.Server(t)
	w := setup(t, node.ClientURL(), both, p.url)
	w.node = node
	w.set("SHOP_POOL_CONNECT_TIMEOUT=2s")
	return w, p
}

// atStandby is the database's connection string at the standby.
func (p *pair) atStandby() string {
	return strings.Replace(p.url, p.primary.Address(), p.standby.Address(), 1)
}

// failOver ends the primary as after a crash, and from then on has the world ask the promoted standby.
func (w *world) failOver(p *pair) {
	w.t.Helper()
	p.primary.Stop(w.t, dbtest.StopImmediate)
	p.standby.Start(w.t)
	p.standby.Promote(w.t)
	w.pool.Close()
	w.reach(p.atStandby())
}

// replicated waits until the standby shows an effect.
func (w *world) replicated(p *pair, name string) {
	w.t.Helper()
	pool, err := pgxpool.New(w.t.Context(), p.atStandby())
	require.NoError(w.t, err)
	defer pool.Close()
	require.Eventually(w.t, func() bool {
		var n int
		return pool.QueryRow(w.t.Context(), `SELECT count(*) FROM effects WHERE name = $1`, name).Scan(&n) == nil && n == 1
	}, testTimeout, 20*time.Millisecond)
}

// effectsByName counts the effects of each name.
func (w *world) effectsByName() map[string]int {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT name, count(*) FROM effects GROUP BY name`)
	require.NoError(w.t, err)
	defer rows.Close()
	found := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		require.NoError(w.t, rows.Scan(&name, &n))
		found[name] = n
	}
	require.NoError(w.t, rows.Err())
	return found
}

// missingRows are the jobs of which the judge of `runner verify` finds a result, and no ledger row. It finds nothing else.
func (w *world) missingRows(connection string) []string {
	w.t.Helper()
	ledger, err := verify.OpenLedger("postgres", connection, "dbrunner", "shop")
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, ledger.Close()) }()
	report, err := verify.Run(w.t.Context(), verify.Options{
		NATS: w.conn, Namespace: "dbrunner", Database: "shop", Ledger: ledger, Retention: 48 * time.Hour, Rate: 1_000_000,
		Pause: 10 * time.Millisecond,
	})
	require.NoError(w.t, err)
	var ids []string
	for _, f := range report.Findings {
		if !f.Warning {
			require.Equal(w.t, "ledger_row_missing", string(f.Kind), "%s: %s", f.JobID, f.Text)
			ids = append(ids, f.JobID)
		}
	}
	slices.Sort(ids)
	return ids
}

// A synchronous standby loses nothing that a result reports, also if the wait of a COMMIT for it is ended on the primary: the runner
// reports no such COMMIT, and the job runs again on the promoted standby.
func TestFailoverToASynchronousStandby(t *testing.T) {
	t.Parallel()
	w, p := newWorldWithStandby(t)
	w.exec(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	w.exec(`SELECT pg_reload_conf()`)
	require.Eventually(t, func() bool {
		var n int
		return w.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`).Scan(&n) == nil && n == 1
	}, testTimeout, 20*time.Millisecond)
	w.start("r1")
	w.start("r2")
	w.serving()
	l := w.startLoad()
	l.goOn(time.Second)
	p.standby.Stop(t, dbtest.StopImmediate)
	require.Eventually(t, func() bool {
		var n int
		err := w.pool.QueryRow(t.Context(), `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event = 'SyncRep'`).Scan(&n)
		return err == nil && n > 0
	}, testTimeout, 10*time.Millisecond, "a COMMIT waits for the standby, and the wait is ended")
	l.goOn(time.Second)
	w.failOver(p)
	l.goOn(time.Second)
	l.check()
	require.Empty(t, w.missingRows(p.atStandby()))
}

// An asynchronous standby loses what the primary committed and had not sent, effect and ledger row together, though results report it:
// the jobs that `runner verify` names, and no others. No effect is there twice.
func TestFailoverToAnAsynchronousStandby(t *testing.T) {
	t.Parallel()
	w, p := newWorldWithStandby(t)
	w.start("r1")
	w.start("r2")
	w.serving()
	l := w.startLoad()
	l.goOn(time.Second)
	w.publish("transaction", insert("sent", "sent"))
	w.stored("sent")
	w.replicated(p, "sent")
	p.standby.Stop(t, dbtest.StopImmediate)
	w.publish("transaction", insert("unsent", "unsent"))
	require.Equal(t, "succeeded", w.stored("unsent").Status)
	w.failOver(p)
	l.goOn(time.Second)
	close(l.stop)
	<-l.done
	w.drained()

	found := w.effectsByName()
	for name, n := range found {
		require.Equal(t, 1, n, "%s: an effect is there twice", name)
	}
	ids := map[string]bool{"sent": true, "unsent": true}
	for i := range l.n {
		ids[fmt.Sprintf("l%d", i)] = true
	}
	var lost []string
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		require.Equal(t, "succeeded", w.stored(id).Status)
		if found[id] == 0 {
			lost = append(lost, id)
		}
	}
	require.Contains(t, lost, "unsent")
	require.NotContains(t, lost, "sent")
	require.Equal(t, lost, w.missingRows(p.atStandby()), "the judge names what was lost")
	t.Logf("%d jobs, of which the failover lost %d", len(ids), len(lost))
}
