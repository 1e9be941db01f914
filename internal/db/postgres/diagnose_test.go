package postgres_test

import (
	"context"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/postgres"
)

// changed is the connection string with something else in it.
func changed(t *testing.T, connection string, change func(*url.URL, url.Values)) string {
	t.Helper()
	u, err := url.Parse(connection)
	require.NoError(t, err)
	q := u.Query()
	change(u, q)
	u.RawQuery = q.Encode()
	return u.String()
}

// Each stage that can fail is the last one reported, with a remedy.
func TestStagesThatFail(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())
	o := options(t)
	for name, c := range map[string]struct {
		change func(*url.URL, url.Values)
		part   string
		says   string
	}{
		"name":     {func(u *url.URL, _ url.Values) { u.Host = "no-such-host.invalid:5432" }, db.PartHost, "cannot be resolved"},
		"port":     {func(u *url.URL, _ url.Values) { u.Host = closed }, db.PartTCP, "refused"},
		"tls":      {func(_ *url.URL, q url.Values) { q.Set("sslmode", "require") }, db.PartTLS, "does not offer TLS"},
		"login":    {func(u *url.URL, _ url.Values) { u.User = url.UserPassword("stranger", secret) }, db.PartLogin, "refused the login"},
		"database": {func(u *url.URL, _ url.Values) { u.Path = "/nosuch" }, db.PartLogin, "no database of the name in the connection string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := o
			own.ConnectionString = changed(t, o.ConnectionString, c.change)
			d, err := postgres.Open(own)
			require.NoError(t, err)
			defer func() { require.NoError(t, d.Close()) }()
			stages := d.(db.Diagnoser).Stages(t.Context())
			last := stages[len(stages)-1]
			require.Equal(t, c.part, last.Part, "%+v", stages)
			require.Equal(t, db.GradeFault, last.Grade)
			require.Contains(t, last.Text, c.says)
			require.NotEmpty(t, last.Remedy)
			require.NotContains(t, last.Text+last.Remedy, secret)
			for _, before := range stages[:len(stages)-1] {
				require.NotEqual(t, db.GradeFault, before.Grade)
			}
		})
	}
}

// Who waits for whom is seen, and who keeps a transaction open, without a word of their statements.
func TestDiagnoseSeesLocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("INSERT INTO effect VALUES (1, 'geheim')")
	holder, waiter := connect(t, b.opts.ConnectionString), connect(t, b.opts.ConnectionString)
	for _, text := range []string{"SET application_name = 'the holder'", "BEGIN", "UPDATE effect SET note = 'geheim' WHERE id = 1"} {
		_, err := holder.Exec(t.Context(), text)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = waiter.Exec(ctx, "  delete from effect where note = 'geheim'") // ended by the test
	}()
	defer func() { <-done }()
	defer cancel()
	looks := b.db.(db.Diagnoser)
	eventually(t, func() bool {
		found, err := looks.Diagnose(t.Context(), db.Diagnosis{PoolMax: 5})
		require.NoError(t, err)
		var text strings.Builder
		for _, f := range found {
			text.WriteString(f.Part + " " + string(f.Grade) + " " + f.Text + " " + f.Remedy + "\n")
		}
		require.NotContains(t, text.String(), "geheim")
		return strings.Contains(text.String(), "waits with DELETE") && strings.Contains(text.String(), `"the holder"), idle in transaction, last statement UPDATE`) &&
			strings.Contains(text.String(), `("the holder") is idle in transaction`)
	}, "the waiting session")
}

func TestCaveats(t *testing.T) {
	t.Parallel()
	for connection, says := range map[string]string{
		"postgres://db.example/shop?sslmode=disable":     "unencrypted",
		"postgres://db.example/shop?sslmode=prefer":      "unencrypted",
		"postgres://db.example/shop?sslmode=require":     "any certificate",
		"postgres://db.example/shop?sslmode=verify-full": "",
		"postgres://127.0.0.1/shop?sslmode=disable":      "",
	} {
		d, err := postgres.Open(db.Options{Name: "shop", Namespace: "n", ConnectionString: connection})
		require.NoError(t, err)
		found := d.(db.Diagnoser).Caveats()
		require.NoError(t, d.Close())
		if says == "" {
			require.Empty(t, found, connection)
			continue
		}
		require.NotEmpty(t, found, connection)
		require.Contains(t, found[0].Text, says, connection)
	}
}

// A login that may not create the ledger learns this before anything is tried.
func TestRehearseWithoutTheRight(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Ledger = db.LedgerOff })
	role := "narrow_" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "_"))
	b.sql("DROP ROLE IF EXISTS " + role)
	b.sql("CREATE ROLE " + role + " LOGIN PASSWORD '" + secret + "'")
	t.Cleanup(func() { b.admin.Exec(context.Background(), "DROP ROLE "+role) }) //nolint:errcheck // the server ends with the tests
	o := b.opts
	o.Ledger = db.LedgerManage
	o.ConnectionString = changed(t, o.ConnectionString, func(u *url.URL, _ url.Values) { u.User = url.UserPassword(role, secret) })
	_, err := b.open(o).(db.Diagnoser).DryRun(t.Context())
	e := requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, e.Message, "grant it CREATE on the database")
}
