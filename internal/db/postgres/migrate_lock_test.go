package postgres_test

import (
	"strings"
	"testing"
	"time"

	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/postgres"
)

// golang-migrate, opened with a URL as by its command line, and the runners keep each other out.
func TestMigrationsShareTheLockOfGolangMigrate(t *testing.T) {
	t.Parallel()
	opts := options(t)
	theirs, err := (&pgxmigrate.Postgres{}).Open(strings.Replace(opts.ConnectionString, "postgres://", "pgx5://", 1))
	require.NoError(t, err)
	defer func() { require.NoError(t, theirs.Close()) }()
	engine, err := postgres.Migrations(opts)
	require.NoError(t, err)
	sessions, err := engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	ours, err := sessions.Conn(t.Context())
	require.NoError(t, err)
	number := func(query string) (n int) {
		require.NoError(t, sessions.QueryRowContext(t.Context(), query).Scan(&n))
		return n
	}
	const locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = " +
		"(SELECT oid FROM pg_database WHERE datname = current_database()) AND granted = "

	require.NoError(t, theirs.Lock())
	ok, err := engine.TryLock(t.Context(), ours)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, 1, number(locks+"true"), "what was taken in vain is given back")
	holder, err := engine.Holder(t.Context(), ours)
	require.NoError(t, err)
	require.Contains(t, holder, "session ")
	require.NoError(t, theirs.Unlock())

	ok, err = engine.TryLock(t.Context(), ours)
	require.NoError(t, err)
	require.True(t, ok)
	locked := make(chan error, 1)
	go func() { locked <- theirs.Lock() }()
	require.Eventually(t, func() bool { return number(locks+"false") == 1 }, time.Minute, 20*time.Millisecond, "theirs waits")
	_, err = ours.ExecContext(t.Context(), "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
	require.NoError(t, ours.Close())
	require.NoError(t, <-locked)
	require.NoError(t, theirs.Unlock())
}
