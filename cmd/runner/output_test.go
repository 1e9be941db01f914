package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// TestForeignTextIsVisible holds that what others wrote (a publisher, a database) cannot steer a terminal, hide text or forge a line.
func TestForeignTextIsVisible(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &client.Result{Result: contract.Result{
		JobID: "a", Status: contract.Failed,
		Answer: contract.Answer{Set: contract.Set{Columns: []contract.Column{{Name: "n\x1b[2J", Type: "t\x1b"}}, Rows: json.RawMessage(`[["\u001b[31m"]]`)}},
		Error:  &contract.Error{Code: "x\x1b", Message: "no such table: t\x1b[2J\nsucceeded  a"},
	}}
	require.NoError(t, printResult(&out, style{}, "", r))
	r.Error.Faults = []contract.Fault{{Path: "p\x1b", Message: "m\x1b"}}
	require.NoError(t, printResult(&out, style{}, "", r))
	require.NoError(t, table(&out, "", [][]string{{"cell\x1b[0m\nnext", "b"}}))
	require.NotContains(t, out.String(), "\x1b")
	require.NotContains(t, out.String(), "\nsucceeded")
	require.NotContains(t, out.String(), "\nnext")
}
