package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// What others wrote (a publisher, a database) cannot steer a terminal, hide text or forge a line.
func TestForeignTextIsVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain, ä, 漢, 😀":           "plain, ä, 漢, 😀",
		"a\x1b[2J\x1b]0;title\a":   `a\x1b[2J\x1b]0;title\a`,
		"one\r\nFAKE succeeded":    `one\r\nFAKE succeeded`,
		"\u009b31m\u202etxt.exe":   `\u009b31m\u202etxt.exe`,
		"tab\tand back\bslash \\n": `tab\tand back\bslash \n`,
	} {
		require.Equal(t, want, visible(text, ""))
	}
	require.Equal(t, "a\nb\t", visible("a\nb\t", "\n\t"))

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
