package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Promise: check warns where a dry run can leave an effect, and nowhere else.
func TestCheckWarnsOfDryRunsThatCanCommit(t *testing.T) {
	t.Parallel()
	for config, warns := range map[string]bool{
		"{type: sqlserver, connection_string: 'sqlserver://a:b@db.example:1433?database=x&encrypt=true', kinds: [dry_run]}": true,
		"{type: sqlserver, connection_string: 'sqlserver://a:b@db.example:1433?database=x&encrypt=true', kinds: [query]}":   false,
		"{type: postgres, connection_string: 'postgres://a:b@db.example/x', kinds: [dry_run]}":                              false,
	} {
		file := filepath.Join(t.TempDir(), "runner.yaml")
		require.NoError(t, os.WriteFile(file, []byte("databases:\n  shop: "+config+"\n"), 0o600))
		_, found := checked(t, file)
		warned := false
		for _, f := range found.Findings {
			warned = warned || f.About == "shop" && f.Part == "kinds"
		}
		require.Equal(t, warns, warned, "%s: %+v", config, found.Findings)
		if warns {
			has(t, found.Findings, "warning", "shop", "dynamic SQL in a dry run can commit")
		}
	}
}
