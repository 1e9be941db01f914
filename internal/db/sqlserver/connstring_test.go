package sqlserver

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
)

func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	(&dbtest.ConnectionStrings{
		Open: Open, Migrations: Migrations,
		Settings: map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"},
		Taken: []string{
			"sqlserver://u:p@h/instance?database=db", "server=tcp:h,1433;database=db;password=\"a;b\"", "Data Source=.;Initial Catalog=db", "odbc:server=h;database=db;pwd={a}}b}",
			"server=(local);database=db", `server=h\SQLEXPRESS;database=db;password="a b"`, "sqlserver://u:p%2F%3F@[::1]:1433?database=db",
		}, Refused: map[string]string{
			"postgres://u:geheim@h/db":                                               "another kind",
			"sqlserver:/u:geheim@h?database=db":                                      "another kind",
			"database=db;encrypt=true;user id=u;password=geheim":                     "no valid server",
			"host=h;database=db;encrypt=true;user id=u;password=geheim":              "no valid server",
			"SHOP_CONNECTION_STRING=sqlserver://u:geheim@h;database=db;encrypt=true": "no valid server",
			"server=sqlserver://u:geheim@h;database=db;encrypt=true":                 "no valid server",
			"sqlserver://h:1433;databaseName=db;user=u;password=geheim":              "cannot be read",
			"server=h;database=db?password=geheim;encrypt=true":                      "in the database name",
			"server=h;database=db;encrypt=true;pass/word=geheim":                     "invalid key",
			"geheim": "no valid server",
		},
	}).Run(t)
}

// The connector of an unchanged connection string stays, with its tokens; one that cannot be read is passed over.
func TestRenewedConnectors(t *testing.T) {
	t.Parallel()
	text := "sqlserver://u:one@h?database=db&encrypt=true"
	opts := db.Options{Name: "shop", Namespace: "dbrunner", ConnectionString: text, Reread: func() string { return text }}
	c, err := newConnectors(&opts, settings{})
	require.NoError(t, err)
	c.now()
	first := c.made
	text = `"sqlserver://u:two@h"`
	c.now()
	require.Same(t, first, c.made)
	text = "sqlserver://u:two@h?database=db&encrypt=true"
	c.now()
	second := c.made
	require.NotSame(t, first, second)
	c.now()
	require.Same(t, second, c.made)
}
