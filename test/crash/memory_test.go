package crash

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// memoryGroup is a cgroup of a test's own, whose processes get only so much memory.
type memoryGroup struct {
	dir                string
	limit, peak, kills string // files
}

// newMemoryGroup makes a cgroup below this process's own one, or below the root where that is not allowed.
func newMemoryGroup(t *testing.T, bytes int) *memoryGroup {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	var tried []error
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		parents := []string{root}
		for line := range strings.Lines(string(own)) {
			fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(fields) == 3 && (fields[1] == "memory" || fields[1] == "") {
				parents = append([]string{filepath.Join(root, fields[2])}, parents...)
			}
		}
		for _, parent := range parents {
			g, err := memoryGroupBelow(parent, bytes)
			if err == nil {
				t.Cleanup(func() {
					require.Eventually(t, func() bool { return os.Remove(g.dir) == nil }, testTimeout, 20*time.Millisecond)
				})
				return g
			}
			tried = append(tried, err)
		}
	}
	t.Skipf("SKIPPED, not tested: memory limits: making a cgroup is not allowed here: %v", errors.Join(tried...))
	return nil
}

func memoryGroupBelow(parent string, bytes int) (*memoryGroup, error) {
	dir, err := os.MkdirTemp(parent, "dbrunner-test-")
	if err != nil {
		return nil, err
	}
	g := &memoryGroup{dir: dir, limit: "memory.max", peak: "memory.peak", kills: "memory.events"}
	if _, err := os.Stat(filepath.Join(dir, "memory.limit_in_bytes")); err == nil { // version 1
		g.limit, g.peak, g.kills = "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"
	}
	if err := os.WriteFile(filepath.Join(dir, g.limit), []byte(strconv.Itoa(bytes)), 0); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return g, nil
}

// killed is how many processes the kernel has killed for want of memory.
func (g *memoryGroup) killed(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.kills))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if n, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); found {
			kills, err := strconv.Atoi(n)
			require.NoError(t, err)
			return kills
		}
	}
	require.FailNow(t, "the kernel counts no kills", "%s", text)
	return 0
}

// enter makes a command run in the cgroup from its first instruction on.
func (g *memoryGroup) enter(cmd *exec.Cmd) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, g.dir, cmd.Path}, cmd.Args[1:]...)...)
}

// resident is the largest memory that a running process has had, in MiB.
func (r *runner) resident() float64 {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	require.NoError(r.t, err)
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			require.NoError(r.t, err)
			return float64(kib) / 1024
		}
	}
	require.FailNow(r.t, "no VmHWM", "%s", status)
	return 0
}

// worst is one of the worst inputs that the contract allows: many jobs of a body without its id.
type worst struct {
	name, kind, body string
	jobs             int
	code             string // the error of all of them; empty: they succeed
	env              []string
	databases        []string // besides shop
}

func worstInputs(t *testing.T) []worst {
	t.Helper()
	columns := make([]string, 1600)
	for i := range columns {
		columns[i] = fmt.Sprintf("%d AS a_column_with_a_long_name_%d", i, i)
	}
	query := func(sql, more string) string {
		text, err := json.Marshal(sql)
		require.NoError(t, err)
		return `"sql":` + string(text) + more
	}
	const inline, object, refused = `,"output":"inline"`, `,"output":"object"`, "result_too_large"
	list := "[" + strings.Repeat("1,", 199_900) + "1]"
	return []worst{
		{
			name: "largest bodies", kind: "transaction", jobs: 80,
			body: `"statements":[{"sql":"SELECT length(:t) AS n","params":{"t":"` + strings.Repeat("x", 940_000) + `"}}]`,
		},
		{name: "200,000 values", kind: "query", jobs: 24, body: query("SELECT cardinality(:list) AS n", `,"params":{"list":{"type":"integer[]","value":`+list+`}}`)},
		{name: "1,600 columns", kind: "query", jobs: 40, body: query("SELECT "+strings.Join(columns, ", ")+" FROM generate_series(1, 10)", "")},
		{name: "largest results", kind: "query", jobs: 100, body: query("SELECT repeat('x', 7000) AS t FROM generate_series(1, 109)", inline)},
		{name: "results of control characters", kind: "query", jobs: 60, body: query("SELECT repeat(chr(1), 1280) AS t FROM generate_series(1, 100)", inline)},
		{name: "20 MB of rows to the object store", kind: "query", jobs: 8, body: query("SELECT n, repeat('x', 200) AS t FROM generate_series(1, 100000) n", object)},
		{name: "Parquet to the object store", kind: "query", jobs: 4, body: query("SELECT n, md5(n::text) AS t FROM generate_series(1, 300000) n", object+`,"format":"parquet"`)},
		{name: "zstd to the object store", kind: "query", jobs: 4, body: query("SELECT n, md5(n::text) AS t FROM generate_series(1, 300000) n", object+`,"format":"csv","compression":"zstd"`)},
		{name: "rows of 8 MB to the object store", kind: "query", jobs: 8, body: query("SELECT repeat('x', 8000000) AS t FROM generate_series(1, 3)", object)},
		{
			name: "rows of 60 MB, above output.max_bytes", kind: "query", jobs: 4, body: query("SELECT repeat('x', 60000000) AS t", object), code: refused,
			env: []string{"SHOP_OUTPUT_MAX_BYTES=16MiB"},
		},
		{name: "rows of 200 MB, above each limit", kind: "query", jobs: 3, body: query("SELECT repeat('x', 200000000) AS t", object), code: refused},
		{name: "largest results of 20 SQLite databases", kind: "query", jobs: 20, databases: sqliteNames(20), body: query(
			"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100) SELECT hex(zeroblob(3500)) AS t FROM c", inline)},
	}
}

func sqliteNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("lite%d", i))
	}
	return names
}

// memoryLimit is what a runner gets: half of what the chart of deploy/helm allows.
const memoryLimit = 128 << 20

// TestMemoryLimit runs each of the worst inputs, all of it pending when a runner starts with a configuration that fits into 128 MiB (it logs
// no warning): the kernel does not kill it, and each job has its result.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	url := dbtest.Postgres(t)
	for _, in := range worstInputs(t) {
		t.Run(strings.ReplaceAll(in.name, ",", ""), func(t *testing.T) {
			g := newMemoryGroup(t, memoryLimit)
			w := onNATS(t, bustest.Server(t).ClientURL())
			w.set(
				"RUNNER_TOPOLOGY_ACK_WAIT=10s", "SHOP_TYPE=postgres", "SHOP_CONNECTION_STRING="+url, "SHOP_SLOTS=4", "SHOP_POOL_MAX=1",
				"RUNNER_WORKER_SETTLE_IN_FLIGHT=4", "RUNNER_WORKER_MAX_OUTPUTS=1", "RUNNER_DATABASES="+strings.Join(append(in.databases, "shop"), ","),
			)
			for _, name := range in.databases {
				prefix := strings.ToUpper(name)
				w.set(prefix+"_TYPE=sqlite", prefix+"_CONNECTION_STRING="+filepath.Join(t.TempDir(), name+".db"), prefix+"_SLOTS=1", prefix+"_POOL_MAX=2", prefix+"_POOL_MIN=0")
			}
			w.set(in.env...)
			w.pending(t, &in)
			w.group = g
			r := w.start("r1")
			w.answered(t, &in, r)
			peak := r.resident()
			if len(in.databases) == 0 {
				require.NotContains(t, r.output.String(), "memory limit")
			}
			r.signal(syscall.SIGTERM)
			r.wait()
			require.Zero(t, g.killed(t), "the kernel killed the runner")
			t.Logf("%d jobs, peak of the process %.0f MiB", in.jobs*max(1, len(in.databases)), peak)
		})
	}
}

func (in *worst) each(visit func(database, id string)) {
	for i := range in.jobs {
		for _, database := range append(in.databases, "shop")[:max(1, len(in.databases))] {
			visit(database, fmt.Sprintf("m%d", i))
		}
	}
}

// pending publishes the jobs of an input, with no runner there.
func (w *world) pending(t *testing.T, in *worst) {
	t.Helper()
	first := w.start("first")
	first.reports("runner started")
	first.signal(syscall.SIGTERM)
	first.wait()
	in.each(func(database, id string) {
		w.publishTo("jobs."+database+"."+in.kind, fmt.Sprintf(`{"id":%q,%s}`, id, in.body))
	})
}

// answered waits for the result of each job.
func (w *world) answered(t *testing.T, in *worst, r *runner) {
	t.Helper()
	in.each(func(database, id string) {
		var got result
		require.Eventually(t, func() bool {
			select {
			case <-r.exited:
				return true
			default:
			}
			stream, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_"+database)
			if err != nil {
				return false
			}
			m, err := stream.GetLastMsgForSubject(t.Context(), "dbrunner.results."+database+"."+id)
			return err == nil && json.Unmarshal(m.Data, &got) == nil
		}, 2*testTimeout, 5*time.Millisecond, "no result of %s", id)
		require.NotEmpty(t, got.JobID, "the runner ended: %s", r.output)
		require.Equal(t, in.code, got.Error.Code, "%s: %s", id, got.Error.Message)
	})
}
