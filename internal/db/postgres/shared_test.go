package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
)

// sharing lets transactions share a commit on a pool of one connection.
func sharing(o *db.Options) { o.SharedCommits, o.Pool.Max = true, 1 }

// together runs one transaction for each job in a group: an effect with the id of its place, from first on, and the job's ledger row.
func (b *bench) together(first int, jobs []string, more ...string) []error {
	b.t.Helper()
	txs := make([]*db.Transaction, len(jobs))
	for i, job := range jobs {
		txs[i] = transaction(append([]string{effectOf(first+i, job)}, more...)...)
	}
	return b.grouped(jobs, txs)
}

// grouped runs the transactions of jobs in a group, each with the job's ledger row.
func (b *bench) grouped(jobs []string, txs []*db.Transaction) []error {
	b.t.Helper()
	errs := make([]error, len(jobs))
	var all sync.WaitGroup
	waiting, started := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(waiting) })
	defer goOn()
	for i, job := range jobs {
		limited, tx := call(), txs[i]
		tx.Shared = true
		if i == 0 {
			once := sync.OnceFunc(func() { close(started) })
			limited.Begin = func() error { once(); <-waiting; return nil }
		}
		all.Go(func() {
			_, errs[i] = b.db.Transact(context.WithoutCancel(b.t.Context()), limited, tx, objects(), sealed(job))
		})
		if i == 0 {
			<-started
		} else {
			eventually(b.t, func() bool { return b.db.Stats().Waiting == i }, "the others wait")
		}
	}
	goOn()
	all.Wait()
	return errs
}

func effectOf(id int, job string) string {
	return fmt.Sprintf("INSERT INTO effect (id, note) VALUES (%d, pg_current_xact_id()::text || ' %s')", id, job)
}

// TestSharedIsOneTransaction shows that a group is one transaction of the server.
func TestSharedIsOneTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, sharing)
	for round := range 3 {
		for _, err := range b.together(10*round, []string{fmt.Sprint("a", round), fmt.Sprint("b", round), fmt.Sprint("c", round)}) {
			require.NoError(t, err)
		}
		require.Equal(t, round+1, b.look("SELECT count(DISTINCT split_part(note, ' ', 1)) FROM effect"))
		require.Equal(t, 3*(round+1), b.look("SELECT count(*) FROM dbrunner.ledger"))
	}
	require.Equal(t, 0, b.advisoryLocks())
}

// TestSharedCut cuts the link at each message of a group, before the server has it and after. Whatever the engine says then, running
// each job again, as a runner does, leaves each effect once, and with its ledger row. No job fails.
func TestSharedCut(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := proxied(t, sharing)
			unknown := 0
			for at := 0; ; at++ {
				var passed atomic.Int64
				inside := new(atomic.Bool)
				match := func(m cutproxy.Message) bool {
					inside.CompareAndSwap(false, bytes.Contains(m.Body, []byte("BEGIN")))
					return inside.Load() && int(passed.Add(1)) == at+1
				}
				arm := proxy.CutBefore
				if after {
					arm = proxy.CutAfter
				}
				happened := arm(match)
				jobs := []string{fmt.Sprint("z", at), fmt.Sprint("y", at), fmt.Sprint("x", at)}
				errs := b.together(10*at, jobs)
				cut := false
				select {
				case <-happened:
					cut = true
				default:
					proxy.Disarm()
				}
				for i, err := range errs {
					class := db.ClassOf(err)
					require.Contains(t, []db.Class{0, db.ClassUnknown, db.ClassLost}, class, "%v", err)
					for range 5 {
						if class != db.ClassUnknown && class != db.ClassLost {
							break
						}
						unknown++
						_, err = b.transact(sealed(jobs[i]), effectOf(10*at+i, jobs[i]))
						class = db.ClassOf(err)
					}
					// A second effect would violate the key of the table, before the ledger is asked.
					require.True(t, err == nil || db.ClassOf(err) == db.ClassAlreadyRecorded || db.ClassOf(err) == db.ClassPermanent, "%v", err)
				}
				require.Equal(t, 3*(at+1), b.effects(), "cut at message %d", at)
				require.Equal(t, 3*(at+1), b.look("SELECT count(*) FROM dbrunner.ledger"), "cut at message %d", at)
				if !cut {
					require.Greater(t, at, 20, "messages of a group")
					break
				}
			}
			require.Positive(t, unknown, "a COMMIT was not answered")
		})
	}
}

// TestSharedCommitFails dissolves groups at the end: by a ledger row that waits for another transaction, and by a trigger that refuses
// the rows. Each job then has its own outcome.
func TestSharedCommitFails(t *testing.T) {
	t.Parallel()
	b := setup(t, sharing)
	other := connect(t, b.opts.ConnectionString)
	tx, err := other.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO dbrunner.ledger (namespace, database_name, job_id, status, answer, sequence, message_time, runner)
		VALUES ('dbrunner', 'test_db', 'b', 'failed', '{}', 1, 1, 'other')`)
	require.NoError(t, err)
	ends := make(chan []error, 1)
	go func() { ends <- b.together(1, []string{"c", "b", "a"}) }()
	eventually(t, func() bool {
		return b.look(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
			AND query LIKE '%INSERT INTO dbrunner.ledger%' AND query NOT LIKE '%unnest%'`) == 1
	}, "the group has given up, and its member waits by itself")
	require.NoError(t, tx.Commit(t.Context()))
	errs := <-ends
	require.NoError(t, errs[0])
	require.NoError(t, errs[2])
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(errs[1]), "%v", errs[1])
	require.Equal(t, 2, b.effects())

	b.sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.job_id = 'refused' THEN RETURN NULL; END IF; RETURN NEW; END $$`)
	b.sql(`CREATE TRIGGER refuse BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION refuse()`)
	errs = b.together(10, []string{"first", "refused", "last"})
	require.NoError(t, errs[0])
	require.Error(t, errs[1])
	require.NoError(t, errs[2])
	require.Equal(t, 4, b.effects())
	require.Equal(t, 5, b.look("SELECT count(*) FROM dbrunner.ledger"))
}

// TestSharedDeferred lets the deferred constraint of one job fail.
func TestSharedDeferred(t *testing.T) {
	t.Parallel()
	b := setup(t, sharing)
	b.sql("CREATE TABLE child (id int PRIMARY KEY, effect_id int REFERENCES effect (id) DEFERRABLE INITIALLY DEFERRED)")
	var errs []error
	var all sync.WaitGroup
	waiting := make(chan struct{})
	statements := [][]string{
		{"INSERT INTO child VALUES (1, 7)", "INSERT INTO effect (id, note) VALUES (7, 'x')"},
		{"INSERT INTO child VALUES (2, 99)"},
		{"INSERT INTO child VALUES (3, 8)", "INSERT INTO effect (id, note) VALUES (8, 'x')"},
	}
	errs = make([]error, len(statements))
	started := make(chan struct{})
	for i, sql := range statements {
		limited, tx := call(), transaction(sql...)
		tx.Shared = true
		if i == 0 {
			once := sync.OnceFunc(func() { close(started) })
			limited.Begin = func() error { once(); <-waiting; return nil }
		}
		all.Go(func() { _, errs[i] = b.db.Transact(t.Context(), limited, tx, objects(), sealed(fmt.Sprint(i))) })
		if i == 0 {
			<-started
		}
	}
	eventually(t, func() bool { return b.db.Stats().Waiting == 2 }, "the others wait")
	close(waiting)
	all.Wait()
	require.NoError(t, errs[0])
	require.Error(t, errs[1])
	require.NoError(t, errs[2])
	require.Equal(t, 2, b.effects())
	require.Equal(t, 2, b.look("SELECT count(*) FROM child"))
}

// TestSharedSessionLocks keeps an advisory lock of a job's session until the job is committed, whatever its neighbors do.
func TestSharedSessionLocks(t *testing.T) {
	t.Parallel()
	b := setup(t, sharing)
	for i, more := range []string{"SELECT pg_advisory_lock(42)", "SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_xact_lock(42)"} {
		jobs := []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}
		for _, err := range b.together(10*i, jobs, more) {
			require.NoError(t, err)
		}
		require.Equal(t, 2, b.look(fmt.Sprintf("SELECT count(DISTINCT split_part(note, ' ', 1)) FROM effect WHERE id >= %d", 10*i)), "each by itself")
	}
	require.Equal(t, 0, b.advisoryLocks())
}
