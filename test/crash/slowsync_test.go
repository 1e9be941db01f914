package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// slowDisk is a file system of a test's own, on a block device whose writes the kernel holds back for the test's process and what it starts.
type slowDisk struct {
	t                  *testing.T
	dir, group, device string
}

// blkio is where the controller of block devices is, in version 1 of cgroups.
const blkio = "/sys/fs/cgroup/blkio"

// newSlowDisk makes the disk, at full speed.
func newSlowDisk(t *testing.T) *slowDisk {
	t.Helper()
	s := &slowDisk{t: t, dir: t.TempDir()}
	unless := func(err error) {
		if err != nil {
			t.Skipf("SKIPPED, not tested: slow syncs: no disk of a chosen speed can be made here: %v", err)
		}
	}
	var err error
	s.group, err = os.MkdirTemp(blkio, "dbrunner-test-")
	unless(err)
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.Remove(s.group) == nil }, testTimeout, 20*time.Millisecond)
	})
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(300<<20))
	require.NoError(t, f.Close())
	unless(exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", image).Run())
	loop, err := exec.Command("losetup", "-f", "--show", image).Output()
	unless(err)
	path := strings.TrimSpace(string(loop))
	t.Cleanup(func() { require.NoError(t, exec.Command("losetup", "-d", path).Run()) })
	require.NoError(t, syscall.Mount(path, s.dir, "ext4", 0, ""))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(s.dir, syscall.MNT_DETACH)) })
	numbers, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), "dev"))
	require.NoError(t, err)
	s.device = strings.TrimSpace(string(numbers))
	s.join()
	return s
}

// join has this process, and what it starts from now on, write at the disk's speed. Other disks are as fast as before.
func (s *slowDisk) join() {
	own, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(s.t, err)
	before := blkio
	for line := range strings.Lines(string(own)) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); fields[1] == "blkio" {
			before = filepath.Join(blkio, fields[2])
		}
	}
	enter := func(group string) {
		require.NoError(s.t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
	}
	enter(s.group)
	s.t.Cleanup(func() { enter(before) })
}

// allow sets how many writes a second the disk takes; zero: all.
func (s *slowDisk) allow(writes int) {
	s.t.Helper()
	limit := fmt.Sprintf("%s %d", s.device, writes)
	require.NoError(s.t, os.WriteFile(filepath.Join(s.group, "blkio.throttle.write_iops_device"), []byte(limit), 0))
}

// A COMMIT that waits for its disk for seconds, longer than the ack wait, keeps its job's lease, and publishes that wait are repeated: each job has its one effect and its
// one result. The two parts are one after the other, because the process is in one group.
func TestSlowSync(t *testing.T) { //nolint:paralleltest // the group is the whole process's
	t.Run("PostgreSQL", func(t *testing.T) {
		slow := newSlowDisk(t)
		s := dbtest.StartPostgres(t, "fsync=on", "min_wal_size=32MB", "max_wal_size=48MB")
		onDisk(t, s, "pg_wal", slow.dir)
		url := s.Database(t)
		w := setup(t, bustest.Server(t).ClientURL(), url, url)
		w.slowly(t, slow, 1)
	})
	t.Run("NATS", func(t *testing.T) {
		url := dbtest.Postgres(t) // first: what a test starts on the disk's speed has to end with it
		slow := newSlowDisk(t)
		node := bustest.Server(t, func(o *server.Options) { o.StoreDir, o.SyncAlways = slow.dir, true })
		w := setup(t, node.ClientURL(), url, url)
		w.slowly(t, slow, 10)
	})
}

// slowly runs jobs on a disk that takes so many writes a second, and checks them.
func (w *world) slowly(t *testing.T, slow *slowDisk, writes int) {
	t.Helper()
	w.start("first")
	w.start("second")
	w.serving()
	const jobs = 12
	started := time.Now()
	slow.allow(writes)
	for i := range jobs {
		w.publish("transaction", insert(fmt.Sprintf("s%d", i), fmt.Sprintf("s%d", i)))
	}
	require.Eventually(t, func() bool { return w.lookup("s0") != nil }, 2*testTimeout, 50*time.Millisecond)
	slow.allow(0)
	took := time.Since(started)
	w.drained()
	again := 0
	for i := range jobs {
		id := fmt.Sprintf("s%d", i)
		got := w.stored(id)
		require.Equal(t, "succeeded", got.Status, id)
		require.Equal(t, 1, w.effects(id), id)
		if got.Deliveries > 1 {
			again++
		}
	}
	require.Greater(t, took, ackWait, "the disk was not slow")
	t.Logf("%d jobs, the disk slow for %s; %d were delivered again", jobs, took, again)
}
