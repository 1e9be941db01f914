package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// endpoint answers as a runner's HTTP endpoint would, on an address, and returns its port.
func endpoint(t *testing.T, address string, status int, body string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			_, _ = fmt.Fprintln(w, `{"status":"ok"}`)
			return
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, body)
	}))
	require.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

// Whatever form the address has, the endpoint is found on this host.
func TestHealthcheckForms(t *testing.T) {
	t.Parallel()
	for listen, forms := range map[string][]string{
		"127.0.0.1:0": {"127.0.0.1:%s", ":%s", "0.0.0.0:%s", "localhost:%s", "[::]:%s"},
		"0.0.0.0:0":   {"127.0.0.1:%s", ":%s", "0.0.0.0:%s"},
		":0":          {":%s", "127.0.0.1:%s", "[::]:%s"},
	} {
		port := endpoint(t, listen, http.StatusOK, `{"ready":true,"state":"running"}`)
		for _, form := range forms {
			address := fmt.Sprintf(form, port)
			for _, ready := range []bool{false, true} {
				var out bytes.Buffer
				f := &healthcheckFlags{timeout: testTimeout, ready: ready}
				require.NoError(t, f.run(t.Context(), &out, []string{"RUNNER_HTTP_ADDRESS=" + address, "HTTP_PROXY=http://127.0.0.1:1"}), address)
				require.Equal(t, "ok\n", out.String())
			}
		}
	}
}

func TestHealthcheckAnswers(t *testing.T) {
	t.Parallel()
	port := endpoint(t, "127.0.0.1:0", http.StatusServiceUnavailable,
		`{"ready":false,"state":"draining","reasons":["NATS is not connected"]}`)
	require.Equal(t, exitOK, runCommand(t, "", "healthcheck", "--address", ":"+port).code, "alive, although not ready")
	got := runCommand(t, "", "healthcheck", "--address", ":"+port, "--ready")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "503")
	require.Contains(t, got.err, "the runner is draining; NATS is not connected")

	file := filepath.Join(t.TempDir(), "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte("http: {address: '127.0.0.1:"+port+"'}\nnats: {user: a, password: b}\n"), 0o600))
	require.Equal(t, exitOK, runCommand(t, "", "healthcheck", "--config", file).code)

	for name, args := range map[string][]string{
		"no address":     {},
		"no port":        {"--address", "localhost"},
		"a free port":    {"--address", ":0"},
		"no time":        {"--address", ":" + port, "--timeout", "0s"},
		"no such config": {"--config", file + ".none"},
		"an argument":    {"something"},
	} {
		got := runCommand(t, "", append([]string{"healthcheck"}, args...)...)
		require.Equal(t, exitUsage, got.code, "%s: %s", name, got.err)
		require.NotEmpty(t, got.err, name)
	}
	gone := runCommand(t, "", "healthcheck", "--address", "127.0.0.1:1")
	require.Equal(t, exitFailure, gone.code)
	require.Contains(t, gone.err, "does not answer")
}

// An endpoint that takes connections and says nothing is not alive.
func TestHealthcheckSilence(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	started := time.Now()
	got := runCommand(t, "", "healthcheck", "--address", listener.Addr().String(), "--timeout", "200ms")
	require.Equal(t, exitFailure, got.code, got.err)
	require.Less(t, time.Since(started), testTimeout)
}
