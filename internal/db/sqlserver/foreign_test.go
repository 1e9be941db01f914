package sqlserver_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/sqlserver"
)

// fileEngine is the engine as far as files are read.
type fileEngine struct{ migration.Engine }

func (fileEngine) Dialect() *dialect.Dialect { return sqlserver.Dialect() }

func load(text string) (*migration.Folder, error) {
	return migration.Load(fileEngine{}, fstest.MapFS{"V1__a.sql": &fstest.MapFile{Data: []byte(text)}})
}

// TestFilesForSqlcmd: what sqlcmd does itself is refused when the folder is read.
func TestFilesForSqlcmd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		":r other.sql": `line 1: ":r" is a command of sqlcmd: make the other file`,
		"SELECT 1\nGO\n:setvar name \"x\"\nUSE [$(name)]\nGO": `line 3: ":setvar" is a command of sqlcmd: write the value where $(name) stands`,
		"  :On Error exit\nSELECT 1":                          `line 1: ":On" is a command of sqlcmd: remove the line`,
		"SELECT 1;\r\n:connect server":                        `line 2: ":connect" is a command of sqlcmd: migrations run in the database`,
		"!!dir\nSELECT 1":                                     `line 1: "!!" is a command of sqlcmd`,
		"SELECT 1\rGO\r:quit":                                 `":quit" is a command of sqlcmd`,
	} {
		_, err := load(text)
		require.ErrorContains(t, err, want, text)
	}
	for _, text := range []string{
		"SELECT '\n:r x\n', [\n:setvar y]", "/*\n:r x\n*/ SELECT 1 -- :r", "SELECT geometry\n::Parse('POINT (1 1)')", "here: GOTO here", "SELECT 1 WHERE 1 !< 2",
	} {
		_, err := load(text)
		require.NoError(t, err, text)
	}
}
