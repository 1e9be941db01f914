package kubernetes_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// token is the password of the tests at their own API server, which listens on the loopback interface only.
const token = "test"

// cluster is an API server with its etcd. No controllers and no nodes run: objects are stored, and nothing starts.
type cluster struct {
	url        string
	kubeconfig string
}

func (c *cluster) config() *rest.Config {
	return &rest.Config{Host: c.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// startCluster starts a cluster that ends with the test.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	folder := t.TempDir()
	clients := "http://127.0.0.1:" + freePort(t)
	peer := "http://127.0.0.1:" + freePort(t)
	start(t, filepath.Join(folder, "etcd.log"), tool(t, etcd), "--data-dir", filepath.Join(folder, "etcd"),
		"--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")

	key := filepath.Join(folder, "service-account.key")
	writeKey(t, key)
	tokens := filepath.Join(folder, "tokens.csv")
	require.NoError(t, os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600))
	port := freePort(t)
	log := filepath.Join(folder, "kube-apiserver.log")
	start(t, log, tool(t, apiServer), "--etcd-servers", clients, "--secure-port", port, "--bind-address", "127.0.0.1",
		"--cert-dir", filepath.Join(folder, "certs"), "--token-auth-file", tokens, "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key,
		"--service-account-signing-key-file", key, "--service-cluster-ip-range", "10.0.0.0/24",
		"--disable-admission-plugins", "ServiceAccount")

	c := &cluster{url: "https://127.0.0.1:" + port, kubeconfig: filepath.Join(folder, "kubeconfig")}
	config, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": c.url, "insecure-skip-tls-verify": true}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.kubeconfig, config, 0o600))
	c.awaitReady(t, log)
	return c
}

func (c *cluster) awaitReady(t *testing.T, log string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // its certificate is a minute old and its own
	}}
	require.Eventually(t, func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/readyz", nil)
		if err != nil {
			return false
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(request)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, 2*time.Minute, 200*time.Millisecond, "the API server is not ready; its log: %s", lazyFile(log))
}

// lazyFile is read when it is printed.
type lazyFile string

func (f lazyFile) String() string {
	text, err := os.ReadFile(string(f))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// start starts a process that writes to a log, and ends it with the test.
func start(t *testing.T, log, name string, args ...string) {
	t.Helper()
	file, err := os.Create(log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = file, file
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		_ = file.Close()
	})
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return port
}

// writeKey writes a new private key, for the tokens of service accounts.
func writeKey(t *testing.T, file string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
}

// moduleFile returns a file of a module, which need not be one of this module's own.
func moduleFile(t *testing.T, module, file string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // outside this module
	out, err := cmd.Output()
	require.NoErrorf(t, err, "%s: %s", module, out)
	var found struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &found))
	text, err := os.ReadFile(filepath.Join(found.Dir, file))
	require.NoError(t, err, fmt.Sprintf("%s has no %s", module, file))
	return string(text)
}
