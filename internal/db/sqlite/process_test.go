//go:build linux

package sqlite_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

// What a process that a test starts is to do is in its environment.
const (
	roleVariable = "DBRUNNER_SQLITE_TEST_ROLE"
	fileVariable = "DBRUNNER_SQLITE_TEST_FILE"
)

const createEffect = "CREATE TABLE IF NOT EXISTS effect (job TEXT, runner INTEGER)"

// TestProcess is not a test of its own: it is what the processes run that other tests start.
func TestProcess(t *testing.T) {
	role := os.Getenv(roleVariable)
	if role == "" {
		return
	}
	opts := options(t)
	opts.ConnectionString = os.Getenv(fileVariable)
	d := setup(t, opts)
	switch role {
	case "write":
		writeJobs(t, d)
	case "full":
		fillDisk(t, d)
	default:
		t.Fatalf("unknown role %q", role)
	}
}

// writeJobs runs the same jobs as every other process does, and returns which ones it did.
func writeJobs(t *testing.T, d db.Database) {
	for i := range 60 {
		job := fmt.Sprintf("job-%d", i)
		for {
			_, err := transact(t.Context(), d, sealed(job), fmt.Sprintf("INSERT INTO effect VALUES ('%s', %d)", job, os.Getpid()))
			class := db.ClassOf(err)
			if class == db.ClassTransient {
				continue
			}
			if err == nil {
				fmt.Printf("done %s\n", job)
			} else {
				require.Equal(t, db.ClassAlreadyRecorded, class, "%v", err)
			}
			break
		}
	}
}

func start(t *testing.T, role, file string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess$", "-test.count=1") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), roleVariable+"="+role, fileVariable+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// done collects what a process says it did, until it ends.
func done(out *bufio.Scanner, more func()) map[string]bool {
	jobs := map[string]bool{}
	for out.Scan() {
		if job, ok := strings.CutPrefix(out.Text(), "done "); ok {
			jobs[job] = true
			more()
		}
	}
	return jobs
}

// TestProcessesRace lets three processes run the same jobs on one file.
func TestProcessesRace(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, createEffect)
	const processes = 3
	claimed := make(chan map[string]bool, processes)
	for range processes {
		cmd, out := start(t, "write", opts.ConnectionString)
		go func() {
			jobs := done(out, func() {})
			if err := cmd.Wait(); err != nil {
				t.Errorf("a process failed: %v", err)
			}
			claimed <- jobs
		}()
	}
	total := 0
	for range processes {
		total += len(<-claimed)
	}
	require.Equal(t, 60, total, "each job was done by one process")
	require.Equal(t, "[[60,60]]", rows(t, d, "SELECT count(*), count(DISTINCT job) FROM effect"))
	require.Equal(t, "[[60]]", rows(t, d, "SELECT count(*) FROM effect JOIN dbrunner_ledger ON job_id = job"))
}

// TestProcessKilled kills processes in the middle of their work: what they said is there, and every effect has
// its ledger row.
func TestProcessKilled(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, createEffect)
	said := map[string]bool{}
	for round := range 5 {
		cmd, out := start(t, "write", opts.ConnectionString)
		n := 0
		for job := range done(out, func() {
			if n++; n == 3+round {
				_ = cmd.Process.Kill()
			}
		}) {
			require.False(t, said[job], "done twice: %s", job)
			said[job] = true
		}
		_ = cmd.Wait()
		for job := range said {
			row, err := d.Lookup(t.Context(), job)
			require.NoError(t, err)
			require.NotNil(t, row, job)
		}
		require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM effect WHERE job NOT IN (SELECT job_id FROM dbrunner_ledger)"))
		require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM dbrunner_ledger WHERE job_id NOT IN (SELECT job FROM effect)"))
		require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) - count(DISTINCT job) FROM effect"))
	}
	require.GreaterOrEqual(t, len(said), 5)
	require.Equal(t, `[["ok"]]`, integrity(t, opts))
}

func integrity(t testing.TB, opts db.Options) string {
	t.Helper()
	var says string
	require.NoError(t, openRaw(t, opts.ConnectionString).QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&says))
	return fmt.Sprintf("[[%q]]", says)
}

// TestDiskFull fills the disk in a process of its own: the limit is the process's.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	opts := options(t)
	setup(t, opts, createEffect)
	cmd, out := start(t, "full", opts.ConnectionString)
	jobs := done(out, func() {})
	require.NoError(t, cmd.Wait())
	require.Len(t, jobs, 40)
	require.Equal(t, `[["ok"]]`, integrity(t, opts))
}

// fillDisk lets files grow to a limit only, so that writes of the log fail, each time at another place of the
// COMMIT. An end that is not known is resolved by trying again.
func fillDisk(t *testing.T, d db.Database) {
	unknown := 0
	for i := range 40 {
		job := fmt.Sprintf("job-%d", i)
		insert := fmt.Sprintf("INSERT INTO effect VALUES ('%s' || substr(hex(zeroblob(3000)), 1, 0), %d)", job, i)
		limitFiles(t, logSize(t)+int64(i)*173)
		_, err := transact(t.Context(), d, sealed(job), insert)
		limitFiles(t, -1)
		if err != nil {
			failure, ok := errors.AsType[*db.Error](err)
			require.True(t, ok)
			require.Contains(t, []db.Class{db.ClassUnknown, db.ClassTransient, db.ClassLost, db.ClassUnavailable}, failure.Class)
			if failure.Class == db.ClassUnknown {
				unknown++
			}
			_, err = transact(t.Context(), d, sealed(job), insert)
		}
		if class := db.ClassOf(err); err != nil {
			require.Equal(t, db.ClassAlreadyRecorded, class, "%v", err)
		}
		require.Equal(t, "[[1]]", rows(t, d, fmt.Sprintf("SELECT count(*) FROM effect WHERE job = '%s'", job)))
		fmt.Printf("done %s\n", job)
	}
	require.Positive(t, unknown, "the disk was never full in a COMMIT: the test shows nothing")
}

func logSize(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(os.Getenv(fileVariable) + "-wal")
	require.NoError(t, err)
	return info.Size()
}

// limitFiles sets how large a file may become; negative = without limit.
func limitFiles(t *testing.T, size int64) {
	t.Helper()
	limit := syscall.Rlimit{}
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	limit.Cur = limit.Max
	if size >= 0 {
		limit.Cur = uint64(size)
	}
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}
