package sqlite_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/migration"
)

// TestFilesForTheShell: what the sqlite3 program does itself is refused when the folder is read.
func TestFilesForTheShell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		".mode csv\n.import x.csv t\nSELECT 1;":        `line 1: ".mode" is a command of the sqlite3 program: remove the line`,
		"CREATE TABLE t (a);\n.import 'it''s.csv' t\n": `line 2: ".import" is a command of the sqlite3 program: write its rows as INSERT`,
		"-- a\n.read other.sql":                        `line 2: ".read" is a command of the sqlite3 program: make the other file`,
		"SELECT 1; .tables":                            `line 1: ".tables" is a command`,
		".print \"it's\"\nSELECT 1;":                   `line 1: ".print" is a command`,
		".bail on\r\nBEGIN;\nSELECT 1;\nCOMMIT;":       `line 1: ".bail" is a command`,
		"/* a */ .quit":                                `line 1: ".quit" is a command`,
	} {
		report, err := migrated(t, options(t), map[string]string{"V1__a.sql": text})
		require.ErrorContains(t, err, want, text)
		require.Equal(t, migration.FaultContents, report.Faults[0].Code)
	}
	for _, text := range []string{
		"CREATE TABLE t (a);\nINSERT INTO main\n.t VALUES (.5);", "-- .mode csv\nSELECT 1;", "SELECT '\n.mode csv\n';", "SELECT 1 AS \"\n.x\";", "SELECT\n.5;",
	} {
		_, err := migrated(t, options(t), map[string]string{"V1__a.sql": text})
		require.NoError(t, err, text)
	}
}
