package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/postgres"
)

// TestFailover lists two servers, of which one takes writes, and changes their roles while sessions are open: jobs go on
// at the one that takes writes.
func TestFailover(t *testing.T) {
	t.Parallel()
	first, second := dbtest.StartPostgres(t), dbtest.StartPostgres(t, "default_transaction_read_only=on")
	for _, s := range []*dbtest.PostgresServer{first, second} {
		admin := connect(t, s.URL("postgres"))
		for _, sql := range []string{"SET default_transaction_read_only = off", "CREATE TABLE effect (id bigint, note text)", postgres.DDL()} {
			_, err := admin.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	o := options(t)
	o.Ledger = db.LedgerVerify
	o.ConnectionString = "postgres://postgres@" + strings.Join([]string{"127.0.0.1:1", second.Address(), first.Address()}, ",") +
		"/postgres?sslmode=disable&target_session_attrs=read-write"
	d, err := postgres.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	b := &bench{t: t, opts: o, db: d}
	require.NoError(t, d.Probe(t.Context()))
	b.fill(3)
	_, err = b.transact(sealed("before"), insertOne)
	require.NoError(t, err)

	for s, readOnly := range map[*dbtest.PostgresServer]string{first: "on", second: "off"} {
		admin := connect(t, s.URL("postgres"))
		for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + readOnly, "SELECT pg_reload_conf()"} {
			_, err := admin.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	admin := connect(t, second.URL("postgres"))
	tries := 0
	eventually(t, func() bool {
		tries++
		_, err := b.transact(sealed(fmt.Sprintf("after_%d", tries)), insertOne)
		if err != nil {
			assert.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
			return false
		}
		var there bool
		return admin.QueryRow(t.Context(), "SELECT count(*) > 0 FROM dbrunner.ledger").Scan(&there) == nil && there
	}, "the other server is found")
}
