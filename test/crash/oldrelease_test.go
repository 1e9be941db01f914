package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
	"dbrunner/test/faults/history"
)

// oldRelease is the last commit before calls, dry runs and queues.
const oldRelease = "316e654413733589c17ac63e566f810aed3598a2"

// oldBinary is the runner of the old release, built once from the history of this repository.
var oldBinary = sync.OnceValues(func() (string, error) {
	ours, err := binary()
	if err != nil {
		return "", err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	return history.Build(context.Background(), root, oldRelease, filepath.Join(filepath.Dir(ours), "old"))
})

// oldRunner is the path of the old release's runner. The test is skipped only where the history is not there.
func oldRunner(t *testing.T) string {
	t.Helper()
	path, err := oldBinary()
	var missing *history.MissingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return path
}

// command runs a command of a runner with the world's settings, and returns its output.
func (w *world) command(path string, env []string, args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), path, args...)
	cmd.Dir = w.t.TempDir()
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}, w.env...), env...)
	out, err := cmd.CombinedOutput()
	w.t.Logf("%s %s: %v\n%s", filepath.Base(filepath.Dir(path)), strings.Join(args, " "), err, out)
	return string(out), err
}

// ended is who ended which job, as the results say.
type ended struct {
	mu      sync.Mutex
	runners map[string]string // by job
	status  map[string]string
}

// watchResults collects the results from now on.
func (w *world) watchResults() *ended {
	w.t.Helper()
	e := &ended{runners: map[string]string{}, status: map[string]string{}}
	sub, err := w.conn.Subscribe("dbrunner.results.shop.*", func(m *nats.Msg) {
		var r result
		if json.Unmarshal(m.Data, &r) == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.runners[r.JobID], e.status[r.JobID] = r.Runner, r.Status
		}
	})
	require.NoError(w.t, err)
	require.NoError(w.t, sub.SetPendingLimits(-1, -1))
	require.NoError(w.t, w.conn.Flush())
	return e
}

// by counts the jobs whose id has a prefix that a runner has ended.
func (e *ended) by(runner, prefix string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, r := range e.runners {
		if r == runner && strings.HasPrefix(id, prefix) {
			n++
		}
	}
	return n
}

// subjects of the load, by the prefix of the ids that are published there. The old release knows the first one alone.
var loadSubjects = map[string]string{
	"plain": "jobs.shop.transaction", "call": "jobs.shop.call.pay", "dry": "jobs.shop.dry_run",
	"bulk": "queues.shop.bulk.transaction", "feed": "queues.shop.feed.transaction",
}

// newSubjects are those that the old release does not know.
var newSubjects = []string{"call", "dry", "bulk", "feed"}

// published is what publishers have published.
type published struct {
	mu      sync.Mutex
	acked   map[string][]string // ids, by prefix
	refused map[string]int
}

func (l *published) counts(prefix string) (acked, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked[prefix]), l.refused[prefix]
}

// publishAlways publishes to all subjects of the load in turn, until stop.
func (w *world) publishAlways() (l *published, stop func()) {
	w.t.Helper()
	l = &published{acked: map[string][]string{}, refused: map[string]int{}}
	ctx, cancel := context.WithCancel(w.t.Context())
	var all sync.WaitGroup
	for prefix, subject := range loadSubjects {
		all.Go(func() {
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%s%d", prefix, i)
				body := insert(id, id)
				if prefix == "call" {
					body = fmt.Sprintf(`{"id":%q,"params":{"name":%[1]q}}`, id)
				}
				_, err := w.js.Publish(w.t.Context(), "dbrunner."+subject, []byte(body), jetstream.WithRetryAttempts(0))
				l.mu.Lock()
				if err == nil {
					l.acked[prefix] = append(l.acked[prefix], id)
				} else {
					l.refused[prefix]++
				}
				l.mu.Unlock()
				<-ticker.C
			}
		})
	}
	stop = func() { cancel(); all.Wait() }
	w.t.Cleanup(stop)
	return l, stop
}

// worldOfTwoReleases is a world whose settings both releases understand; full are those of the new one besides.
func worldOfTwoReleases(t *testing.T, replicas int) (w *world, full []string) {
	t.Helper()
	url, servers := dbtest.Postgres(t), ""
	if replicas > 1 {
		servers = bustest.Cluster(t, replicas).URL()
	} else {
		servers = bustest.Server(t).ClientURL()
	}
	w = setup(t, servers, url, url)
	w.set(fmt.Sprintf("RUNNER_TOPOLOGY_REPLICAS=%d", replicas))
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "pay.yaml"), []byte(`description: Note a name
params:
  name: {type: text, schema: {type: string}}
statements:
  - {sql: "INSERT INTO effects (name) VALUES (:name)", expect_rows: 1}
`), 0o600))
	return w, []string{
		"SHOP_KINDS=query,transaction,statement,migration,health,call,dry_run", "SHOP_CATALOG_FOLDER=" + folder,
		"SHOP_QUEUES=bulk,feed", "SHOP_QUEUES_FEED_ORDERED=true",
	}
}

// backlog is how many jobs are pending when the features come.
const backlog = 10_000

// fillBacklog publishes the jobs that are pending.
func (w *world) fillBacklog() {
	w.t.Helper()
	for i := range backlog {
		id := fmt.Sprintf("pending%d", i)
		_, err := w.js.PublishAsync("dbrunner.jobs.shop.transaction", []byte(insert(id, id)))
		require.NoError(w.t, err)
		if i%500 == 499 {
			<-w.js.PublishAsyncComplete()
		}
	}
	stream, err := w.js.Stream(w.t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(w.t, err)
	require.EqualValues(w.t, backlog, stream.CachedInfo().State.Msgs)
}

// await waits for something that takes as long as the runners are busy.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	require.Eventually(w.t, ok, 5*testTimeout, 20*time.Millisecond, what)
}

// Promise: calls, dry runs and queues come to a database with 10,000 pending jobs under load while runners of the old and of the new release are
// up, and go again in the documented order until the old release is alone, on one node and on three: no acknowledged job is lost or stranded, each
// has one effect, and the old release takes nothing that it does not know.
func TestFeaturesComeAndGoBesideAnOldRelease(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int{"R1": 1, "R3": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			besideAnOldRelease(t, replicas)
		})
	}
}

func besideAnOldRelease(t *testing.T, replicas int) {
	t.Helper()
	old := oldRunner(t)
	ours, err := binary()
	require.NoError(t, err)
	w, full := worldOfTwoReleases(t, replicas)

	_, err = w.command(old, nil, "topology", "apply")
	require.NoError(t, err)
	w.fillBacklog()
	results := w.watchResults()
	first := w.startAs(old, "old1")
	newer := w.start("new1", full...)
	l, stop := w.publishAlways()
	w.await("both releases work", func() bool { return results.by("old1", "") > 0 && results.by("new1", "") > 0 })

	// The features come.
	_, err = w.command(ours, full, "topology", "apply")
	require.NoError(t, err)
	publishes := func(more int, prefixes ...string) {
		t.Helper()
		for _, prefix := range prefixes {
			before, _ := l.counts(prefix)
			w.await("jobs are published: "+prefix, func() bool { n, _ := l.counts(prefix); return n >= before+more })
		}
	}
	publishes(20, newSubjects...)
	done := results.by("old1", "")
	for _, prefix := range newSubjects {
		w.await("the new release runs "+prefix, func() bool { return results.by("new1", prefix) > 20 })
	}
	w.await("the old release goes on", func() bool { return results.by("old1", "") > done })

	// An old runner that restarts meanwhile refuses to start, and one that is alone leaves alone what it does not know.
	restarted := w.startAs(old, "old2")
	restarted.wait()
	require.Contains(t, restarted.output.String(), "streams and consumers are not as configured")
	newer.signal(syscall.SIGTERM)
	newer.wait()
	done = results.by("old1", "")
	publishes(20, newSubjects...)
	w.await("the old release goes on alone", func() bool { return results.by("old1", "") > done })
	newer = w.start("new2", full...)
	for _, prefix := range newSubjects {
		w.await("the new release runs "+prefix, func() bool { return results.by("new2", prefix) > 0 })
	}

	// They go again: with the new binary, and a configuration that no longer names them.
	newer.signal(syscall.SIGTERM)
	newer.wait()
	publishes(5, newSubjects...) // they wait
	_, err = w.command(ours, nil, "topology", "apply", "--remove")
	require.NoError(t, err)
	for _, prefix := range newSubjects {
		_, before := l.counts(prefix)
		w.await("publishing is refused: "+prefix, func() bool { _, n := l.counts(prefix); return n > before+5 })
	}
	for _, force := range []string{"--force=false", "--force=true"} {
		out, err := w.command(ours, nil, "topology", "prune", force)
		require.Error(t, err)
		require.Equal(t, 3, strings.Count(out, " jobs wait for it, which no other consumer would deliver"), "%s", out)
	}
	newer = w.start("new3", full...)
	w.await("nothing is left of the features", func() bool {
		out, err := w.command(ours, nil, "topology", "prune")
		return err == nil && strings.Contains(out, "DBRUNNER_JOBS_shop/queue_feed: removed")
	})
	consumers, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	var names []string
	for info := range consumers.ListConsumers(t.Context()).Info() {
		names = append(names, info.Name)
	}
	require.ElementsMatch(t, []string{"work", "migration", "health"}, names)

	// The old release alone.
	newer.signal(syscall.SIGTERM)
	newer.wait()
	first.signal(syscall.SIGTERM)
	first.wait()
	_, err = w.command(old, nil, "topology", "apply")
	require.NoError(t, err)
	w.startAs(old, "old3")
	w.await("the old release works alone", func() bool { return results.by("old3", "") > 0 })
	publishes(20, "plain")
	stop()
	w.drainedWithin(10 * testTimeout)
	w.requireAllOnce(l, results)
}

// requireAllOnce requires that each acknowledged job has its result and its one effect, and that the old release has ended none of those that it does
// not know.
func (w *world) requireAllOnce(l *published, results *ended) {
	w.t.Helper()
	wanted := map[string]int{} // effects
	for i := range backlog {
		wanted[fmt.Sprintf("pending%d", i)] = 1
	}
	for prefix, ids := range l.acked {
		for _, id := range ids {
			wanted[id] = 1
			if prefix == "dry" {
				wanted[id] = 0
			}
		}
	}
	w.await("all results are here", func() bool { return results.missing(wanted) == 0 })
	effects := map[string]int{}
	rows, err := w.pool.Query(w.t.Context(), `SELECT name, count(*) FROM effects GROUP BY name`)
	require.NoError(w.t, err)
	var name string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { effects[name] = n; return nil })
	require.NoError(w.t, err)
	results.mu.Lock()
	defer results.mu.Unlock()
	for id, n := range wanted {
		require.Equal(w.t, n, effects[id], "effects of %s", id)
		require.Equal(w.t, "succeeded", results.status[id], id)
	}
	for id, runner := range results.runners {
		require.LessOrEqual(w.t, effects[id], 1, id)
		if strings.HasPrefix(runner, "old") {
			require.True(w.t, strings.HasPrefix(id, "plain") || strings.HasPrefix(id, "pending"), "%s of %s", id, runner)
		}
	}
	require.Empty(w.t, w.deadLetters())
}

// missing counts the jobs without a result.
func (e *ended) missing(wanted map[string]int) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range wanted {
		if e.status[id] == "" {
			n++
		}
	}
	return n
}
