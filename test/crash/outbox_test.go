package crash

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// outboxWorld is a world whose database shop has an outbox. Its rows become jobs of shop itself.
type outboxWorld struct {
	*world
	table           string
	claims, deletes string                            // texts of the relay's statements
	before, after   func(text string) <-chan struct{} // cut the relay's link around a statement; nil: it has none
}

// outboxWorlds are worlds of all engines.
func outboxWorlds() map[string]func(*testing.T) *outboxWorld {
	const deletes = "DELETE FROM dbrunner.outbox"
	return map[string]func(*testing.T) *outboxWorld{
		"postgres": func(t *testing.T) *outboxWorld {
			url := dbtest.Postgres(t)
			config, err := pgx.ParseConfig(url)
			require.NoError(t, err)
			proxy := cutproxy.New(t, fmt.Sprintf("%s:%d", config.Host, config.Port))
			w := &outboxWorld{
				world: setup(t, bustest.Server(t).ClientURL(), url, url), claims: "UPDATE dbrunner.outbox o SET", deletes: deletes,
				before: func(text string) <-chan struct{} { return proxy.CutBefore(cutproxy.Text(text)) },
				after:  func(text string) <-chan struct{} { return proxy.CutAfter(cutproxy.Text(text)) },
			}
			w.withOutbox("postgres", proxy.URL(url))
			return w
		},
		"sqlserver": func(t *testing.T) *outboxWorld {
			world, proxy := newSQLServerWorld(t)
			w := &outboxWorld{world: world, claims: "UPDATE o SET claimed_until", deletes: deletes, before: proxy.CutBefore, after: proxy.CutAfter}
			w.withOutbox("sqlserver", w.url)
			return w
		},
		"sqlite": func(t *testing.T) *outboxWorld {
			w := &outboxWorld{world: sqliteWorld(t)}
			w.withOutbox("sqlite", "")
			return w
		},
	}
}

// withOutbox gives database shop an outbox. The relay reaches it at url; without one, it has none of its own.
func (w *outboxWorld) withOutbox(engine, url string) {
	w.t.Helper()
	w.table = "dbrunner.outbox"
	if engine == "sqlite" {
		w.table = "dbrunner_outbox"
	}
	ddl, err := manager.OutboxDDL(engine)
	require.NoError(w.t, err)
	for batch := range strings.SplitSeq(ddl, "\nGO\n") {
		if strings.TrimSpace(batch) != "" {
			w.exec(batch)
		}
	}
	w.set("SHOP_OUTBOX_TARGETS=jobs.shop.transaction")
	if url != "" {
		w.set("SHOP_OUTBOX_CONNECTION_STRING=" + url)
	}
}

// enqueue inserts a row whose job has the effect of its id.
func (w *outboxWorld) enqueue(id string) string {
	return fmt.Sprintf(`INSERT INTO %s (id, target, body) VALUES ('%[2]s', 'jobs.shop.transaction',
		'{"statements":[{"sql":"INSERT INTO effects (name) VALUES (''%[2]s'')"}]}')`, w.table, id)
}

// enqueued inserts a row in a transaction that commits, and others in transactions that do not.
func (w *outboxWorld) enqueued(id string) {
	w.t.Helper()
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := w.db.BeginTx(w.t.Context(), nil)
		require.NoError(w.t, err)
		for _, text := range []string{w.enqueue(id), w.enqueue(id + "-never"), "DELETE FROM " + w.table + " WHERE id = '" + id + "-never'"} {
			_, err = tx.ExecContext(w.t.Context(), text)
			require.NoError(w.t, err)
		}
		require.NoError(w.t, end(tx))
	}
}

// relayed waits until no row is left.
func (w *outboxWorld) relayed() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var n int
		err := w.db.QueryRowContext(w.t.Context(), "SELECT count(*) FROM "+w.table+" WHERE error IS NULL").Scan(&n)
		return err == nil && n == 0
	}, testTimeout, 20*time.Millisecond, "rows are left in the outbox")
}

// TestOutboxKilledAtEachStep: whatever dies, a row that was committed has one effect, and one that was rolled back none.
func TestOutboxKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for engine, world := range outboxWorlds() {
		for _, place := range []string{"outbox_claimed", "outbox_posted", "outbox_published", "outbox_deleted"} {
			t.Run(engine+"/"+place, func(t *testing.T) {
				t.Parallel()
				w := world(t)
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
}

// TestOutboxLinksCut cuts the relay's link around each of its statements, and the link to NATS before the confirmation.
func TestOutboxLinksCut(t *testing.T) {
	t.Parallel()
	for engine, world := range outboxWorlds() {
		if engine == "sqlite" {
			continue // it has no link
		}
		for name, cut := range map[string]func(*outboxWorld) <-chan struct{}{
			"before the claim":  func(w *outboxWorld) <-chan struct{} { return w.before(w.claims) },
			"after the claim":   func(w *outboxWorld) <-chan struct{} { return w.after(w.claims) },
			"before the DELETE": func(w *outboxWorld) <-chan struct{} { return w.before(w.deletes) },
			"after the DELETE":  func(w *outboxWorld) <-chan struct{} { return w.after(w.deletes) },
		} {
			t.Run(engine+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := world(t)
				w.start("r")
				w.serving()
				w.enqueued("warm")
				require.Equal(t, "succeeded", w.stored("warm").Status)
				w.relayed()
				happened := cut(w)
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
}

// callers are transactions of a caller, each with a row of the outbox and one of its own; commit is the text that ends one.
type callers struct {
	*outboxWorld
	connect func() *sql.DB // through a place that cuts the link
	commit  string
	late    func(text string) <-chan struct{} // the server gets the text when the caller has lost the link; nil: not here
}

func callerWorlds() map[string]func(*testing.T) *callers {
	return map[string]func(*testing.T) *callers{
		"postgres": func(t *testing.T) *callers {
			c := &callers{outboxWorld: outboxWorlds()["postgres"](t), commit: "commit"}
			config := c.pool.Config().ConnConfig
			proxy := cutproxy.New(t, fmt.Sprintf("%s:%d", config.Host, config.Port))
			c.connect = func() *sql.DB {
				through, err := pgx.ParseConfig(proxy.URL(c.pool.Config().ConnString()))
				require.NoError(t, err)
				return stdlib.OpenDB(*through)
			}
			c.before = func(text string) <-chan struct{} { return proxy.CutBefore(cutproxy.Text(text)) }
			c.after = func(text string) <-chan struct{} { return proxy.CutAfter(cutproxy.Text(text)) }
			c.late = func(text string) <-chan struct{} { return proxy.CutLate(cutproxy.Text(text), time.Second) }
			return c
		},
		"sqlserver": func(t *testing.T) *callers {
			c := &callers{outboxWorld: outboxWorlds()["sqlserver"](t), commit: "COMMIT TRANSACTION /* of the caller */"}
			c.connect = func() *sql.DB {
				connector, err := mssql.NewConnector(c.url)
				require.NoError(t, err)
				return sql.OpenDB(connector)
			}
			return c
		},
	}
}

// call runs the transaction name and returns the error of its COMMIT.
func (c *callers) call(name string, cut func(string) <-chan struct{}) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testTimeout)
	defer cancel()
	db := c.connect()
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	require.NoError(c.t, err)
	defer func() { _ = conn.Close() }()
	for _, text := range []string{"BEGIN TRANSACTION", "INSERT INTO orders VALUES ('" + name + "')", c.enqueue(name)} {
		_, err = conn.ExecContext(ctx, text)
		require.NoError(c.t, err)
	}
	if cut == nil {
		_, err = conn.ExecContext(ctx, c.commit)
		return err
	}
	happened := cut(c.commit)
	_, err = conn.ExecContext(ctx, c.commit)
	<-happened
	return err
}

// committed reports whether the transaction is committed. Its own row is inserted again, which waits for one that is under way.
func (c *callers) committed(name string) bool {
	c.t.Helper()
	tx, err := c.db.BeginTx(c.t.Context(), nil)
	require.NoError(c.t, err)
	_, twice := tx.ExecContext(c.t.Context(), "INSERT INTO orders VALUES ('"+name+"')")
	_ = tx.Rollback()
	return twice != nil
}

// TestOutboxCutAroundTheCallersCommit: the row has one effect if and only if the transaction of its caller is committed.
func TestOutboxCutAroundTheCallersCommit(t *testing.T) {
	t.Parallel()
	for engine, world := range callerWorlds() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			c := world(t)
			c.exec(`CREATE TABLE orders (id varchar(20) NOT NULL PRIMARY KEY)`)
			c.start("r")
			c.serving()
			cuts := map[string]func(string) <-chan struct{}{"before": c.before, "after": c.after}
			if c.late != nil {
				cuts["late"] = c.late
			}
			require.NoError(t, c.call("none", nil))
			for name, cut := range cuts {
				require.Error(t, c.call(name, cut), name)
			}
			want := map[string]bool{"none": true, "after": true, "before": false}
			if c.late != nil {
				want["late"] = c.committed("late")
			}
			effects := 0
			for name, is := range want {
				require.Equal(t, is, c.committed(name), name)
			}
			c.relayed()
			for name, is := range want {
				if is {
					require.Equal(t, "succeeded", c.stored(name).Status)
					require.Equal(t, 1, c.effects(name))
					effects++
				}
			}
			c.drained()
			var n int
			require.NoError(t, c.db.QueryRowContext(t.Context(), `SELECT count(*) FROM effects`).Scan(&n))
			require.Equal(t, effects, n, "no other effect")
		})
	}
}

// TestOutboxNATSLostBeforeTheConfirmation restarts NATS between publish and confirmation: before the job is sent, or after the
// stream has stored it.
func TestOutboxNATSLostBeforeTheConfirmation(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"outbox_publishing", "outbox_posted"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := &outboxWorld{world: newWorld(t)}
			w.withOutbox("postgres", w.url)
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
	w := &outboxWorld{world: newWorld(t)}
	const retention = 16 * time.Second
	w.withOutbox("postgres", w.url)
	w.set("SHOP_LEDGER_RETENTION="+retention.String(), "SHOP_LEDGER_SWEEP_INTERVAL=1s", "RUNNER_TOPOLOGY_RESULTS_MAX_AGE=5s", "RUNNER_TOPOLOGY_RESULTS_MIN_AGE=1s",
		"RUNNER_TOPOLOGY_JOBS_DUPLICATE_WINDOW=1s")
	w.start("second")
	w.serving()
	first := w.start("first", "DBRUNNER_FREEZE_AT=outbox_publishing")
	id, started := "", time.Now()
	for i := 0; !first.isFrozen(); i++ { // until the first one has claimed a row
		id, started = fmt.Sprintf("a%d", i), time.Now()
		w.exec(w.enqueue(id))
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
