package sqlite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

// What was meant as something else never becomes the name of a new file.
func TestConnectionStringsThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, words := range map[string]string{
		`"/data/geheim.db"`:          "quotes",
		`'/data/geheim.db'`:          "quotes",
		"jdbc:sqlite:/geheim.db":     "jdbc:",
		"sqlite:///geheim.db":        "another kind",
		"postgres://u:geheim@h/db":   "another kind",
		"/data/geheim.db\r":          "carriage return",
		"/data/geheim.db\n":          "U+000A",
		"/data/geheim.db ":           "blank",
		" /data/geheim.db":           "blank",
		"\uFEFF/data/geheim.db":      "byte order mark",
		"/data/geheim\u200B.db":      "U+200B",
		"file:/data/geheim.db\u00A0": "U+00A0",
	} {
		opts := db.Options{Name: "shop", Namespace: "dbrunner", ConnectionString: text}
		_, opened := Open(opts)
		_, migrations := Migrations(opts)
		for _, err := range []error{opened, migrations} {
			require.ErrorContains(t, err, words, "%q", text)
			require.NotContains(t, err.Error(), "geheim")
			var wrong *db.ConnectionStringError
			require.ErrorAs(t, err, &wrong)
		}
	}
	for _, text := range []string{"a b.db", "file:/data/a%20b.db", "/data/x.db", "./x.db"} {
		_, err := filePath(text)
		require.NoError(t, err, text)
	}
}
