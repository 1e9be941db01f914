package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/migration"
)

func TestConnectionStrings(t *testing.T) {
	t.Setenv("PGHOST", "")
	t.Setenv("PGSERVICE", "")
	(&dbtest.ConnectionStrings{Open: Open, Migrations: Migrations, Taken: []string{
		"postgres://u:p@h/db", "postgres://u:p%2F%23%3F@h:5432/db?sslmode=disable", "postgres:///db?host=/var/run/postgresql", "host=/tmp dbname=db",
		"host=h password='a b'  search_path=x", "postgres://u@[2001:db8::7]:5432/db", "postgres://a:5432,b:5433/db?target_session_attrs=read-write", "HOST=h",
		"postgres://u@h/r&d?options=-c%20geqo%3Doff&my.setting=1",
	}, Refused: map[string]string{
		"sqlserver://u:geheim@h?database=db":              "another kind",
		"postgresql:/u:geheim@h/db":                       "another kind",
		"geheim":                                          "cannot be read",
		"SHOP_CONNECTION_STRING=postgres://u:geheim@h/db": "names no host",
		"Server=h;Database=db;User Id=u;Password=geheim":  "names no host",
		"user=u password=geheim dbname=db":                "names no host",
		"host=h;port=5432;user=u;password=geheim":         "an invalid host",
		"host=h,i;password=geheim":                        "an invalid host",
		"postgres://h/db;user=u;password=geheim":          "in the database name",
		"postgres://h/db&user=u&password=geheim":          "in the database name",
		"postgres://u:1/geheim@h/db":                      "in the database name",
		"postgres://u:1#geheim@h/db":                      "%23",
		"postgres://u:1?geheim@h/db":                      "invalid parameter name",
		"host=h 'geheim'=x":                               "invalid parameter name",
	}}).Run(t)
	t.Setenv("PGHOST", "h")
	_, err := readConnection("dbname=db")
	require.NoError(t, err)
}

var _ migration.Engine = (*migrations)(nil)

// A connection string that became unreadable keeps the one of the start; one that changed is used.
func TestRenewedConnections(t *testing.T) {
	t.Parallel()
	text := "postgres://u:one@h/db?sslmode=disable"
	opts := db.Options{Name: "shop", Namespace: "dbrunner", ConnectionString: text, Reread: func() string { return text }}
	config, err := poolConfig(&opts)
	require.NoError(t, err)
	for now, want := range map[string]string{
		"postgres://u:two@i/db?sslmode=disable": "two", `"postgres://u:three@h/db"`: "one", "": "one", text: "one",
	} {
		text = now
		cc := config.ConnConfig.Copy()
		renew(cc, &opts)
		require.Equal(t, want, cc.Password, now)
	}
}
