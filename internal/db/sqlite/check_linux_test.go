package sqlite_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/sqlite"
)

// stranger is a user that owns nothing here.
const stranger = 65534

func TestCheckReportsAnUnwritableFile(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "check") // the folders above a test's own are for its user alone
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(dir)) }()
	o := options(t)
	o.ConnectionString = filepath.Join(dir, "shop.db")
	d := setup(t, o, "CREATE TABLE t (n)")
	require.NoError(t, d.Close())
	require.NoError(t, os.Chmod(o.ConnectionString, 0o444))
	require.NoError(t, os.Chmod(dir, 0o777))
	if os.Geteuid() == 0 { // whom permissions do not bind: this thread opens files as another user
		runtime.LockOSThread()
		require.NoError(t, syscall.Setfsuid(stranger))
		defer func() {
			require.NoError(t, syscall.Setfsuid(0))
			runtime.UnlockOSThread()
		}()
	}
	d, err = sqlite.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	v, err := d.Check(t.Context())
	require.NoError(t, err)
	require.Contains(t, v.ReadOnly, "cannot be written")
}
