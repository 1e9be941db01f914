package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/engine"
)

func TestCheckConnectionString(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"postgres://u:geheim@h/db", "host=h password='a b'", "host=h password=' x '", "odbc:server=h", "sqlserver://h", "/var/lib/x y.db", `C:\x.db`, "Server=tcp:h,1433;Password=\"a b\";x=y",
	} {
		require.NoError(t, engine.CheckConnectionString(good, "postgres://", "odbc:", "sqlserver://"), good)
	}
	for bad, words := range map[string]string{
		`"postgres://u:geheim@h/db"`:             "quotes",
		`'postgres://u:geheim@h/db'`:             "quotes",
		"`geheim`":                               "quotes",
		"“postgres://u:geheim@h/db”":             "quotes",
		`"postgres://u:geheim@h/db`:              "quotes",
		"jdbc:postgresql://h/db?password=geheim": "jdbc:",
		"JDBC:sqlserver://h;password=geheim":     "jdbc:",
		"mysql://u:geheim@h/db":                  "another kind",
		"postgres:/u:geheim@h/db":                "another kind",
		"postgres://u:geheim@h/db\r":             "carriage return",
		"host=h\r\npassword=geheim":              "carriage return",
		"\uFEFFpostgres://u:geheim@h/db":         "byte order mark",
		"postgres://u:geheim@h/db\u00A0":         "U+00A0",
		"host=h\u200B password=geheim":           "U+200B",
		"host=h\tpassword=geheim":                "U+0009",
		"host=h\npassword=geheim":                "U+000A",
		" postgres://u:geheim@h/db":              "blank",
		"postgres://u:geheim@h/db ":              "blank",
		"postgres://u:geheim\xff@h/db":           "UTF-8",
		"postgres://u:geheim\x00@h/db":           "U+0000",
		"\u202Epostgres://u:geheim@h/db":         "U+202E",
	} {
		err := engine.CheckConnectionString(bad, "postgres://", "odbc:", "sqlserver://")
		require.ErrorContains(t, err, words, "%q", bad)
		require.NotContains(t, err.Error(), "geheim")
	}
}
