package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContract(t *testing.T) {
	t.Parallel()
	listed := runCommand(t, "", "contract")
	require.Equal(t, exitOK, listed.code)
	names := strings.Fields(listed.out)
	require.Contains(t, names, "job-query")
	for _, name := range names {
		printed := runCommand(t, "", "contract", name)
		require.Equal(t, exitOK, printed.code)
		require.True(t, json.Valid([]byte(printed.out)), name)
	}
	require.Equal(t, runCommand(t, "", "contract", "job-query"), runCommand(t, "", "contract", "query"))
	wrong := runCommand(t, "", "contract", "job")
	require.Equal(t, exitUsage, wrong.code)
	require.Contains(t, wrong.err, `no schema is named "job"; write one of answer-calls, answer-cancel`)
}
