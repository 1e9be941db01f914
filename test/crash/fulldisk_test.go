package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// reports waits until a runner has logged a text.
func (r *runner) reports(text string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(r.output.String(), text) }, testTimeout, 20*time.Millisecond, text)
}

// A NATS server whose disk is full acknowledges nothing, and goes on like that when there is space again: its operator restarts it. What it
// has acknowledged is there then, each job has its one effect and its one result, and no runner has to be restarted.
func TestFullDiskUnderNATS(t *testing.T) {
	t.Parallel()
	dir := disk(t, "64m")
	url := dbtest.Postgres(t)
	node := bustest.Server(t, func(o *server.Options) { o.StoreDir = dir })
	w := setup(t, node.ClientURL(), url, url)
	w.set("RUNNER_WORKER_HEARTBEAT_INTERVAL=1s")
	first := w.start("first")
	w.serving()
	l := w.startLoad()
	for _, r := range []*runner{first, w.start("second")} {
		l.goOn(time.Second)
		empty := fill(t, dir)
		r.reports("heartbeat not published")
		empty()
		node.Restart()
		l.goOn(time.Second)
	}
	l.check()
}

// onDisk moves a folder of a server's data to a disk of its own.
func onDisk(t *testing.T, s *dbtest.PostgresServer, folder, dir string) (data string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), `SHOW data_directory`).Scan(&data))
	require.NoError(t, conn.Close(t.Context()))
	s.Stop(t, dbtest.StopFast)
	moved := filepath.Join(data, folder)
	out, err := exec.Command("cp", "-a", moved+"/.", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, syscall.Mount(dir, moved, "", syscall.MS_BIND, ""))
	t.Cleanup(func() {
		s.Stop(t, dbtest.StopImmediate)
		require.NoError(t, syscall.Unmount(moved, 0))
	})
	s.Start(t)
	return data
}

// Jobs whose writes find the disk of PostgreSQL full fail without an effect or wait; with space again they succeed.
func TestFullDiskUnderPostgreSQL(t *testing.T) {
	t.Parallel()
	dir := disk(t, "160m")
	s := dbtest.StartPostgres(t, "min_wal_size=32MB", "max_wal_size=48MB")
	onDisk(t, s, ".", dir)
	url := s.Database(t)
	w := setup(t, bustest.Server(t).ClientURL(), url, url)
	w.exec(`ALTER TABLE effects ADD COLUMN filler bytea`)
	r := w.start("r1")
	w.serving()

	const jobs = 60
	publish := func(phase string) { w.publishFillers(phase, jobs, 600) }
	publish("before")
	w.drained()
	empty := fill(t, dir)
	publish("full")
	r.reports("insufficient_resources") // of a job that has failed, or whose failure does not fit into the ledger either
	empty()
	publish("free")
	w.drained()
	w.fates(t, jobs, "before", "full", "free")
}

// A full disk under PostgreSQL's WAL stops the server, and its operator starts it again. Jobs wait for it as for one that is down, and each that was under way has its effect
// once if its result says so.
func TestFullDiskUnderWAL(t *testing.T) {
	t.Parallel()
	dir := disk(t, "96m")
	s := dbtest.StartPostgres(t, "min_wal_size=32MB", "max_wal_size=48MB", "logging_collector=on", "log_directory='log'", "log_filename='server.log'")
	data := onDisk(t, s, "pg_wal", dir)
	url := s.Database(t)
	w := setup(t, bustest.Server(t).ClientURL(), url, url)
	w.exec(`ALTER TABLE effects ADD COLUMN filler bytea`)
	r := w.start("r1")
	w.start("r2")
	w.serving()

	const jobs = 120
	publish := func(phase string) { w.publishFillers(phase, jobs, 16000) }
	publish("before")
	w.drained()
	w.exec(`SELECT pg_create_physical_replication_slot('kept', true)`) // a standby that is gone: no segment is used again
	empty := fill(t, dir)
	publish("full")
	select {
	case <-s.Ended():
	case <-time.After(testTimeout):
		require.Fail(t, "PostgreSQL still runs")
	}
	log, err := os.ReadFile(filepath.Join(data, "log", "server.log"))
	require.NoError(t, err)
	require.Regexp(t, "PANIC: .*No space left on device", string(log))
	r.reports("database unreachable; its jobs wait")
	empty()
	s.Stop(t, dbtest.StopImmediate)
	s.Start(t)
	w.pool.Reset() // its connections are to the server before
	w.exec(`SELECT pg_drop_replication_slot('kept')`)
	w.exec(`CHECKPOINT`)
	publish("free")
	w.drained()
	w.fates(t, jobs, "before", "full", "free")
}

// publishFillers publishes jobs of a phase that each leave an effect, with as many hashes of 32 bytes.
func (w *world) publishFillers(phase string, jobs, hashes int) {
	for i := range jobs {
		id := fmt.Sprintf("%s%d", phase, i)
		w.publish("transaction", fmt.Sprintf(`{"id":%q,"statements":[{"sql":"INSERT INTO effects (name, filler) `+
			`SELECT :name, string_agg(sha256(i::text::bytea), '') FROM generate_series(1, %d) i","params":{"name":%q}}]}`, id, hashes, id))
	}
}

// fates checks that each job of each phase has one result, and its effect if it succeeded. Only jobs of the phase full may fail.
func (w *world) fates(t *testing.T, jobs int, phases ...string) {
	t.Helper()
	waited, failed, codes := 0, 0, map[string]int{}
	for _, phase := range phases {
		for i := range jobs {
			id := fmt.Sprintf("%s%d", phase, i)
			got, want := w.stored(id), 1
			if got.Status != "succeeded" {
				require.Equal(t, []string{"full", "failed"}, []string{phase, got.Status}, "%s: %s", id, got.Error.Message)
				codes[got.Error.Code+": "+got.Error.Message]++
				want = 0
				failed++
			}
			require.Equal(t, want, w.effects(id), id)
			if got.Deliveries > 1 {
				waited++
			}
		}
	}
	t.Logf("%d jobs, of which %d were requeued and %d failed: %v", len(phases)*jobs, waited, failed, codes)
}

// SQLite sorts in temporary files, the only ones that a runner writes. Where they do not fit, the job fails without an effect and reports why, and
// others go on.
func TestFullDiskUnderTemporaryFiles(t *testing.T) {
	t.Parallel()
	dir := disk(t, "32m")
	w := onNATS(t, bustest.Server(t).ClientURL())
	w.set("SHOP_TYPE=sqlite", "SHOP_CONNECTION_STRING="+filepath.Join(t.TempDir(), "shop.db"), "SQLITE_TMPDIR="+dir)
	w.start("r1")
	w.serving()
	w.publish("transaction", `{"id":"table","statements":[{"sql":"CREATE TABLE effects (name TEXT NOT NULL)"}]}`)
	require.Equal(t, "succeeded", w.stored("table").Status)
	sorting := func(id string, rows int) {
		query := fmt.Sprintf(`INSERT INTO effects SELECT h FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %d)
			SELECT hex(randomblob(500)) AS h FROM c ORDER BY h LIMIT 1000000) LIMIT 1`, rows)
		body, err := json.Marshal(map[string]any{"id": id, "statements": []any{map[string]any{"sql": "INSERT INTO effects VALUES ('" + id + "')"}, map[string]any{"sql": query}}})
		require.NoError(t, err)
		w.publish("transaction", string(body))
	}
	refused := func(id string) {
		got := w.stored(id)
		require.Equal(t, "failed", got.Status)
		require.Equal(t, "insufficient_resources", got.Error.Code)
	}
	empty := fill(t, dir)
	sorting("full", 5000)
	w.publish("transaction", `{"id":"small","statements":[{"sql":"INSERT INTO effects VALUES ('small')"}]}`)
	refused("full")
	require.Equal(t, "succeeded", w.stored("small").Status)
	empty()
	sorting("free", 5000)
	require.Equal(t, "succeeded", w.stored("free").Status)
	sorting("large", 50_000)
	refused("large")
	w.drained()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files are removed")
	w.publish("query", `{"id":"names","row_format":"arrays","sql":"SELECT name FROM effects WHERE length(name) < 10 ORDER BY name"}`)
	require.Equal(t, "succeeded", w.stored("names").Status)
	require.Contains(t, string(w.lookup("names")), `"rows":[["free"],["small"]]`)
}

// A cluster of three goes on while the disk of one of its servers is full, also if that led the jobs stream, and its operator restarts that server once there is space. Each job
// that was acknowledged has its one effect and its one result, no runner has to be restarted, and the server catches up.
func TestFullDiskUnderNodeOfCluster(t *testing.T) {
	t.Parallel()
	dir := disk(t, "64m")
	nodes := bustest.Cluster(t, 3, func(o *server.Options) {
		if o.ServerName == "node1" {
			o.StoreDir = dir
		}
	})
	full := nodes.Nodes[0]
	url := dbtest.Postgres(t)
	w := setup(t, nodes.URL(), url, url)
	w.set("RUNNER_TOPOLOGY_REPLICAS=3")
	w.start("first")
	w.start("second")
	w.serving()
	const jobs = "DBRUNNER_JOBS_shop"
	require.Eventually(t, func() bool {
		leader := nodes.StreamLeader(jobs)
		if leader != nil && leader != full {
			nodes.StepDownStream(w.conn, jobs)
		}
		return leader == full
	}, testTimeout, 200*time.Millisecond)
	l := w.startLoad()
	l.goOn(time.Second)
	before := l.acks.Load()
	empty := fill(t, dir)
	require.Eventually(t, func() bool { return l.acks.Load() > before+500 }, testTimeout, 20*time.Millisecond, "the cluster goes on")
	t.Logf("with its disk full, the server still leads the jobs stream: %t", nodes.StreamLeader(jobs) == full)
	empty()
	full.Restart()
	l.goOn(time.Second)
	l.check()
	require.Eventually(t, func() bool {
		stream, err := w.js.Stream(t.Context(), jobs)
		if err != nil || stream.CachedInfo().Cluster == nil {
			return false
		}
		current := 0
		for _, replica := range stream.CachedInfo().Cluster.Replicas {
			if replica.Current {
				current++
			}
		}
		return current == 2
	}, testTimeout, 100*time.Millisecond, "the server catches up")
}
