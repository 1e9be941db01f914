package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/postgres"
)

func TestCheckReportsAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	o := options(t)
	u, err := url.Parse(o.ConnectionString)
	require.NoError(t, err)
	q := u.Query()
	q.Set("default_transaction_read_only", "on")
	u.RawQuery = q.Encode()
	o.ConnectionString = u.String()
	d, err := postgres.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	v, err := d.Check(t.Context())
	require.NoError(t, err)
	require.Contains(t, v.ReadOnly, "default_transaction_read_only")
	require.Equal(t, contract.RolePrimary, v.Role)
}

// A network that drops everything, before the login and after it: the check ends with its context.
func TestCheckOfAServerThatHangs(t *testing.T) {
	t.Parallel()
	o := options(t)
	u, err := url.Parse(o.ConnectionString)
	require.NoError(t, err)
	proxy := cutproxy.New(t, u.Host)
	o.ConnectionString = proxy.URL(o.ConnectionString)
	d, err := postgres.Open(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	_, err = d.Check(t.Context())
	require.NoError(t, err)

	proxy.Block()
	defer proxy.Unblock()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	v, err := d.Check(ctx)
	require.Less(t, time.Since(started), 5*time.Second)
	require.Equal(t, db.ClassCanceled, db.ClassOf(err), "%v", err)
	require.Zero(t, v.Connect)

	proxy.Unblock()
	cut := proxy.CutBefore(cutproxy.Text("pg_is_in_recovery"))
	v, err = d.Check(t.Context())
	<-cut
	require.Positive(t, v.Connect)
	require.Zero(t, v.Query)
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
}
