package sqlserver_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlserver"
)

// A configuration that would trust any server, or log values, does not start, and no error quotes the connection
// string.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const base = "sqlserver://sa:" + secret + "@db.example:1433?database=shop"
	for name, c := range map[string]struct {
		connection string
		settings   map[string]string
		says       string
	}{
		"no encryption asked for":  {base, nil, "encrypt=true"},
		"encryption off":           {base + "&encrypt=false", nil, "allow_unencrypted"},
		"encryption disabled":      {base + "&encrypt=disable", nil, "allow_unencrypted"},
		"any certificate":          {base + "&encrypt=true&TrustServerCertificate=true", nil, "allow_unverified_certificate"},
		"any certificate, one way": {base + "&encrypt=true&TrustServerCertificate=true", map[string]string{"allow_unencrypted": "true"}, "allow_unverified_certificate"},
		"log":                      {base + "&encrypt=true&log=63", nil, "log="},
		"log, other form":          {"server=db.example;user id=sa;password=" + secret + ";database=shop;encrypt=true;log=8", nil, "log="},
		"no database":              {"sqlserver://sa:" + secret + "@db.example?encrypt=true", nil, "database="},
		"not readable":             {"sqlserver://sa:" + secret + "@db.example?encrypt=true&database=shop&encrypt=true", nil, "cannot be read"},
		"the file does not exist":  {base + "&encrypt=true&certificate=/no/such.pem", nil, "certificate"},
		"Entra ID without what it needs": {
			"server=db.example;database=shop;encrypt=true;fedauth=ActiveDirectoryPassword;user id=a;password=" + secret, nil, "fedauth",
		},
		"unknown setting":  {base + "&encrypt=true", map[string]string{"encrypt": "false"}, "unknown setting"},
		"no truth":         {base + "&encrypt=true", map[string]string{"label_sessions": "perhaps"}, "true or false"},
		"nothing at all":   {"", nil, "the connection string is missing"},
		"a PostgreSQL URL": {"postgres://sa:" + secret + "@db.example/shop", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := optionsFor(c.connection)
			opts.Settings = c.settings
			_, err := sqlserver.Open(opts)
			require.Error(t, err)
			require.Contains(t, err.Error(), c.says)
			require.Contains(t, err.Error(), "test_db")
			require.NotContains(t, err.Error(), secret)
			require.NotContains(t, err.Error(), "db.example")
		})
	}
}

func TestOpenTakes(t *testing.T) {
	t.Parallel()
	for name, connection := range map[string]string{
		"encrypted":       "sqlserver://sa:p%7D%3Bw@127.0.0.1:1?database=shop&encrypt=true",
		"strict":          "sqlserver://sa:pw@127.0.0.1:1?database=shop&encrypt=strict",
		"other form":      "server=127.0.0.1,1;user id=sa;password=\"p;}w\";database=shop;encrypt=true",
		"failover":        "sqlserver://sa:pw@127.0.0.1:1?database=shop&encrypt=true&failoverpartner=127.0.0.2&failoverport=2&multisubnetfailover=true",
		"replica":         "sqlserver://sa:pw@127.0.0.1:1?database=shop&encrypt=true&ApplicationIntent=ReadOnly",
		"managed account": "server=127.0.0.1;port=1;database=shop;encrypt=true;fedauth=ActiveDirectoryManagedIdentity",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := optionsFor(connection)
			opts.Settings = nil
			d, err := sqlserver.Open(opts)
			require.NoError(t, err)
			require.Equal(t, "sqlserver", d.Engine())
			require.NoError(t, d.Close())
		})
	}
}

// More parameters than the server takes never reach the driver.
func TestTooManyParameters(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("nothing", reply{}))
	d := p.open()
	list := make([]dialect.Value, 2101)
	text := "SELECT 1 WHERE 1 IN (?"
	for i := range list {
		list[i] = dialect.Value{Kind: dialect.Number, Text: "1"}
		if i > 0 {
			text += ",?"
		}
	}
	_, faults := dialect.Compile(d.Dialect(), dialect.Statement{SQL: text + ")", Params: dialect.Params{List: list}})
	require.NotEmpty(t, faults)
	require.Equal(t, contract.CodeParameter, faults[0].Code)
}

func TestPositionalParameters(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("nothing", reply{}))
	c, faults := dialect.Compile(p.open().Dialect(), dialect.Statement{
		SQL: "SELECT :a, '? :b', [:c], :d, :a -- ?", Params: dialect.Params{Named: map[string]dialect.Value{
			"a": {Kind: dialect.Number, Text: "1"}, "d": {Kind: dialect.String, Text: "x"},
		}},
	})
	require.Empty(t, faults)
	require.Equal(t, "SELECT @p1, '? :b', [:c], @p2, @p1 -- ?", c.SQL)
}
