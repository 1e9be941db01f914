package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dbtest"
)

// A job that turns the wait for its COMMIT off, in whichever way, still has its effect after the server crashed: the
// fence turns it on again.
func TestJobsCannotWeakenTheirCommit(t *testing.T) {
	t.Parallel()
	server, b := own(t, "wal_writer_delay=10s", "full_page_writes=on")
	for i, off := range []string{
		"SET LOCAL synchronous_commit = off", "SET synchronous_commit = off",
		"SELECT set_config('synchronous' || '_commit', 'off', false)",
	} {
		b.sql("TRUNCATE effect")
		_, err := b.transact(sealed(string(rune('a'+i))), off, insertOne)
		require.NoError(t, err)
		server.Stop(t, dbtest.StopImmediate)
		server.Start(t)
		b.admin = connect(t, b.opts.ConnectionString)
		require.Equal(t, 1, b.effects(), off)
		eventually(t, func() bool { return b.db.Probe(t.Context()) == nil }, "the server is back")
	}
}
