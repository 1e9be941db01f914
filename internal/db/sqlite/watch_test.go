package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"
)

const slow = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"

func testConn(t *testing.T) *session {
	t.Helper()
	s := &settings{
		path: filepath.Join(t.TempDir(), "x.db"), create: true, synchronous: "FULL", lockTimeout: time.Minute,
	}
	c, err := openConn(t.Context(), s, false)
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c
}

func requireInterrupted(t *testing.T, err error) {
	t.Helper()
	var f *fault
	require.ErrorAs(t, err, &f)
	require.EqualValues(t, sqlite3.SQLITE_INTERRUPT, f.primary())
}

// TestWatchRepeats interrupts between two statements: SQLite forgets that, the watch does not.
func TestWatchRepeats(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	defer c.arm(t.Context(), 0)()
	c.watch.cancel(c.watch.call)
	_, err := c.pragma(slow)
	requireInterrupted(t, err)
	require.Equal(t, canceled, c.watch.interrupted())
	c.end()
	require.NoError(t, c.run(beginWriting), "nothing of it reaches the next call")
	require.NoError(t, c.run(rollback))
}

// TestWatchOfCallsThatAreOver lets callbacks come late: they must not meet the next call.
func TestWatchOfCallsThatAreOver(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	stop := c.arm(t.Context(), time.Hour)
	first := c.watch.call
	stop()
	c.end()
	c.watch.cancel(first)
	require.Equal(t, notInterrupted, c.watch.interrupted(), "no watch is set")

	defer c.arm(t.Context(), time.Hour)()
	c.watch.cancel(first)
	c.watch.tick()
	require.Equal(t, notInterrupted, c.watch.interrupted(), "the second call is another one")
	c.end()
}

func TestWatchReasons(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	stop := c.arm(t.Context(), time.Millisecond)
	_, err := c.pragma(slow)
	requireInterrupted(t, err)
	require.Equal(t, timedOut, c.watch.interrupted())
	stop()
	c.end()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stop = c.arm(ctx, time.Hour)
	_, err = c.pragma(slow)
	requireInterrupted(t, err)
	require.Equal(t, canceled, c.watch.interrupted())
	stop()
	c.end()
}

// TestSessionSettings are what a commit's durability hangs on.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	for pragma, want := range map[string]string{
		"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "fullfsync": "0", "busy_timeout": "50",
	} {
		got, err := c.pragma("PRAGMA " + pragma)
		require.NoError(t, err)
		require.Equal(t, want, got, pragma)
	}
}

// TestCacheBounded keeps the statements used last and no more than fit.
func TestCacheBounded(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	compile := func(n int) *stmt {
		s, _, err := c.h.prepare("SELECT 1", 0)
		require.NoError(t, err)
		s.sql = string(rune('a' + n))
		return s
	}
	for n := range maxStatements + 10 {
		require.True(t, c.cache.put(compile(n)))
		require.NotNil(t, c.cache.get("a"), "used each time")
	}
	require.Len(t, c.cache.bySQL, maxStatements)
	require.Nil(t, c.cache.get("b"), "the oldest made room")
	long := compile(0)
	long.sql = string(make([]byte, maxCachedSQL+1))
	require.False(t, c.cache.put(long))
	long.finalize()
}
