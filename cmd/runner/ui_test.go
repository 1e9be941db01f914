package main

import (
	"io"
	"net/http"
	"net/url"
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
	for _, path := range []string{"/", "/db/shop", "/dead", "/?token=in-the-address;x"} {
		got, err := http.Get(address + path) //nolint:noctx // a test's
		require.NoError(t, err)
		body, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.NoError(t, got.Body.Close())
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.Contains(t, string(body), "TEST")
	}
	http.DefaultClient.CloseIdleConnections()
	form := url.Values{"token": {"in-the-form"}, "why": {"in-the-form"}}
	got, err := http.PostForm(address+"/db/shop/pause", form) //nolint:noctx // a test's
	require.NoError(t, err)
	require.NoError(t, got.Body.Close())
	require.Equal(t, http.StatusForbidden, got.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, exitOK, p.terminate(), "%s", p.output())
	require.Regexp(t, `^the page is on http://127\.0\.0\.1:\d+ \(with actions\)\n$`, p.output(), "it logs nothing of what it is asked and shows")
}

// TestUIKeepsPasswords out of its errors.
func TestUIKeepsPasswords(t *testing.T) {
	t.Parallel()
	got := runCommand(t, "", "ui", "--server", "nats://ops:s3cr3t-word@127.0.0.1:1", "--listen", "127.0.0.1:0")
	require.NotEqual(t, exitOK, got.code)
	require.NotContains(t, got.out+got.err, "s3cr3t-word")
}

func TestUIChecksItsFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--listen", "8090"}, {"--listen", "0.0.0.0:0", "--write"}, {"--grafana", "javascript:alert(1)"}, {"extra"},
	} {
		require.Equal(t, exitUsage, runCommand(t, "", append([]string{"ui"}, args...)...).code, "%v", args)
	}
}
