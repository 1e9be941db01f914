package sqlite

import (
	"testing"

	"dbrunner/internal/db/dbtest"
)

func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	(&dbtest.ConnectionStrings{
		Open: Open, Migrations: Migrations,
		Taken: []string{"a b.db", "file:/data/a%20b.db", "/data/x.db", "./x.db"},
		Refused: map[string]string{
			"sqlite:///geheim.db":      "another kind",
			"postgres://u:geheim@h/db": "another kind",
		},
	}).Run(t)
}
