package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
)

// ConnectionStrings are what an engine takes for a connection string, and what it refuses.
type ConnectionStrings struct {
	Open       func(db.Options) (db.Database, error)
	Migrations func(db.Options) (migration.Engine, error)
	Settings   map[string]string
	Taken      []string
	// Refused are strings of which the engine itself says what is wrong, each with a part of its error. The secret in them
	// is the word geheim.
	Refused map[string]string
}

// damaged are the ways in which a connection string is no longer one, on every engine.
var damaged = map[string]func(text string) string{
	"quotes":          func(s string) string { return `"` + s + `"` },
	"in quotes":       func(s string) string { return "'" + s + "'" },
	"jdbc:":           func(s string) string { return "jdbc:" + s },
	"another kind":    func(string) string { return "mysql://u:geheim@h/db" },
	"carriage return": func(s string) string { return s + "\r" },
	"byte order mark": func(s string) string { return "\uFEFF" + s },
	"blank":           func(s string) string { return s + " " },
	"a blank":         func(s string) string { return " " + s },
	"U+000A":          func(s string) string { return s + "\n" },
	"U+00A0":          func(s string) string { return s + "\u00A0" },
	"U+200B":          func(s string) string { return s[:1] + "\u200B" + s[1:] },
}

// Run tests that what was meant as something else never becomes a connection to another server, or a new file, and that no
// error quotes it.
func (c *ConnectionStrings) Run(t *testing.T) {
	t.Helper()
	options := func(text string) db.Options {
		return db.Options{Name: "shop", Namespace: "dbrunner", Ledger: db.LedgerManage, ConnectionString: text, Settings: c.Settings}
	}
	refused := func(text, words string) {
		_, opened := c.Open(options(text))
		_, migrations := c.Migrations(options(text))
		for _, err := range []error{opened, migrations} {
			require.ErrorContains(t, err, words, "%q", text)
			require.NotContains(t, err.Error(), "geheim")
			var wrong *db.ConnectionStringError
			require.ErrorAs(t, err, &wrong)
		}
	}
	for _, text := range c.Taken {
		d, err := c.Open(options(text))
		require.NoError(t, err, text)
		require.NoError(t, d.Close())
		_, err = c.Migrations(options(text))
		require.NoError(t, err, text)
		for words, damage := range damaged {
			refused(damage(text), words)
		}
	}
	for text, words := range c.Refused {
		refused(text, words)
	}
}
