package crash

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"dbrunner/internal/bus/bustest"
)

// disk is a small file system of a test's own.
func disk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED, not tested: a full file system: mounting one is not allowed here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill takes what is free on a disk, and returns how it is given back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(path)) }
}

// Jobs wait for a database whose disk is full, as for one that is down; one whose COMMIT the full disk refuses may fail, without an effect and with the disk as its cause. With
// space again they succeed, and no effect is missing or there twice.
func TestFullDiskUnderSQLite(t *testing.T) {
	t.Parallel()
	dir := disk(t, "16m")
	w := onNATS(t, bustest.Server(t).ClientURL())
	file := filepath.Join(dir, "shop.db")
	w.set("SHOP_TYPE=sqlite", "SHOP_CONNECTION_STRING="+file)
	r := w.start("r1")
	w.serving()
	w.publish("transaction", `{"id":"table","statements":[{"sql":"CREATE TABLE effects (name TEXT NOT NULL, filler BLOB)"}]}`)
	require.Equal(t, "succeeded", w.stored("table").Status)

	const jobs = 40
	publish := func(phase string) {
		for i := range jobs {
			id := fmt.Sprintf("%s%d", phase, i)
			w.publish("transaction", fmt.Sprintf(`{"id":%q,"statements":[{"sql":"INSERT INTO effects VALUES (:name, zeroblob(20000))","params":{"name":%q}}]}`, id, id))
		}
	}
	empty := fill(t, dir)
	publish("full")
	require.Eventually(t, func() bool { return strings.Contains(r.output.String(), "the disk or the database is full") },
		testTimeout, 20*time.Millisecond)
	empty()
	publish("free")
	w.drained()

	db, err := sql.Open("sqlite", file)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	waited, failed := 0, 0
	for _, phase := range []string{"full", "free"} {
		for i := range jobs {
			id := fmt.Sprintf("%s%d", phase, i)
			got := w.stored(id)
			want := 1
			if got.Status != "succeeded" {
				require.Equal(t, []string{"full", "failed"}, []string{phase, got.Status}, "%s: %s", id, got.Error.Message)
				require.Contains(t, got.Error.Message, "the disk or the database is full")
				want = 0
				failed++
			}
			var n int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM effects WHERE name = ?`, id).Scan(&n))
			require.Equal(t, want, n, id)
			if got.Deliveries > 1 {
				waited++
			}
		}
	}
	t.Logf("%d jobs, of which %d were requeued and %d failed", 2*jobs, waited, failed)
}
