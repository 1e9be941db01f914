package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sqlite"
)

func TestCheckMakesNoFile(t *testing.T) {
	t.Parallel()
	o := options(t)
	d, err := sqlite.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	_, err = d.Check(t.Context())
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
	_, err = os.Stat(o.ConnectionString)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCheckDistinguishesAMissingFolderFromAMissingFile(t *testing.T) {
	t.Parallel()
	for path, says := range map[string]string{
		"shop.db":        "there is no database file; create it, or write settings.create: true",
		"nosuch/shop.db": "the folder of the database file does not exist; create the folder",
	} {
		o := options(t)
		o.ConnectionString = filepath.Join(t.TempDir(), path)
		d, err := sqlite.Open(o)
		require.NoError(t, err)
		_, err = d.Check(t.Context())
		require.ErrorContains(t, err, says)
		require.NoError(t, d.Close())
	}
}

// A check leaves the write-ahead log as it is, also where no other connection is open.
func TestCheckMovesNothing(t *testing.T) {
	t.Parallel()
	o := options(t)
	raw := openRaw(t, o.ConnectionString)
	for _, sql := range []string{"PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 0", "CREATE TABLE t (n)"} {
		_, err := raw.ExecContext(t.Context(), sql)
		require.NoError(t, err)
	}
	// The files as a killed process leaves them.
	dir := t.TempDir()
	for _, end := range []string{"", "-wal"} {
		content, err := os.ReadFile(o.ConnectionString + end)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "copy.db"+end), content, 0o600))
	}
	o.ConnectionString = filepath.Join(dir, "copy.db")
	before, err := os.Stat(o.ConnectionString + "-wal")
	require.NoError(t, err)
	d, err := sqlite.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	_, err = d.Check(t.Context())
	require.NoError(t, err)
	after, err := os.Stat(o.ConnectionString + "-wal")
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
}

func TestCheckOfALockedFile(t *testing.T) {
	t.Parallel()
	o := options(t)
	d := setup(t, o)
	require.NoError(t, d.Close())
	raw := openRaw(t, o.ConnectionString)
	raw.SetMaxOpenConns(1)
	for _, sql := range []string{"PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"} {
		_, err := raw.ExecContext(t.Context(), sql)
		require.NoError(t, err)
	}
	d, err := sqlite.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	started := time.Now()
	v, err := d.Check(ctx)
	require.Equal(t, db.ClassCanceled, db.ClassOf(err), "%v", err)
	require.Zero(t, v.Query)
	require.Less(t, time.Since(started), 5*time.Second)
	_, err = raw.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}
