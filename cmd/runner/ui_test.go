package main

import (
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var pageAddress = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// TestUIServes shows the fleet until it is stopped.
func TestUIServes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := startProcess(t, "ui", "--config", w.config, "--listen", "127.0.0.1:0", "--environment", "test", "--write")
	p.await("the page is on ")
	address := pageAddress.FindString(p.output())
	require.NotEmpty(t, address, p.output())
	for _, path := range []string{"/", "/db/shop", "/dead"} {
		got, err := http.Get(address + path) //nolint:noctx // a test's
		require.NoError(t, err)
		body, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.NoError(t, got.Body.Close())
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.Contains(t, string(body), "TEST")
	}
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
}

func TestUIChecksItsFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--listen", "8090"}, {"--listen", "0.0.0.0:0", "--write"}, {"--grafana", "javascript:alert(1)"}, {"extra"},
	} {
		require.Equal(t, exitUsage, runCommand(t, "", append([]string{"ui"}, args...)...).code, "%v", args)
	}
}
