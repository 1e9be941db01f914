package sqlserver_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sqlserver"
)

// TestSharedCommitsAreRefused refuses a setting that this engine cannot keep.
func TestSharedCommitsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := sqlserver.Open(db.Options{Name: "shop", ConnectionString: "sqlserver://sa:x@localhost/shop", SharedCommits: true})
	require.ErrorContains(t, err, "shared_commits is for PostgreSQL and SQLite")
	require.ErrorContains(t, err, "XACT_ABORT")
}
