// Package kubernetes_test shows that the Helm chart in deploy/helm works: with the real Helm, on a real API server with its etcd
// and the custom resources of KEDA and the Prometheus operator. It is a module of its own, so that none of this is a dependency of
// the runner.
package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const (
	// chart is the folder that all tests are about.
	chart = "../../deploy/helm/dbrunner"
	// kubernetesVersion is the version in go.mod.
	kubernetesVersion = "v1.37.2"
)

// values are a chart's values, as Helm reads them.
type values map[string]any

// The commands that the tests run, all built from this module's list of tools.
const (
	helm      = "helm.sh/helm/v4/cmd/helm"
	apiServer = "k8s.io/kubernetes/cmd/kube-apiserver"
	etcd      = "go.etcd.io/etcd/server/v3"
)

// TestMain builds the commands one after the other, before several tests ask for them. Later runs build nothing.
func TestMain(m *testing.M) {
	for _, path := range []string{helm, etcd, apiServer} {
		fmt.Println("building", path)
		if err := build(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// commands is the folder that they are built into, which Git ignores.
const commands = "../../.bin/kubernetes"

// build builds a command into the folder of commands, unless it is there and up to date.
func build(path string) error {
	cmd := exec.Command("go", "build", "-o", commands+"/",
		// Helm compares the server's version, which is set at its build, with the chart's kubeVersion.
		"-ldflags", "-X k8s.io/component-base/version.gitVersion="+kubernetesVersion, path)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", path, err)
	}
	return nil
}

// tool returns the path of a command.
func tool(t *testing.T, path string) string {
	t.Helper()
	name := filepath.Base(path)
	if path == etcd {
		name = "server" // the last element is a version
	}
	absolute, err := filepath.Abs(filepath.Join(commands, name))
	require.NoError(t, err)
	return absolute
}

// run runs a command and returns what it wrote to both streams.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// Nothing of the machine's own Helm or cluster.
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir(), "KUBECONFIG=/nonexistent")
	err := cmd.Run()
	return out.String(), err
}

// writeValues writes values to a file and returns its path.
func writeValues(t *testing.T, v values) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

// render returns the manifests of the chart with these values.
func render(t *testing.T, v values) (string, error) {
	t.Helper()
	return run(t, tool(t, helm), "template", "runners", chart, "--values", writeValues(t, v))
}

// objects splits rendered manifests and returns each as JSON.
func objects(t *testing.T, manifests string) []json.RawMessage {
	t.Helper()
	var all []json.RawMessage
	for _, part := range strings.Split("\n"+manifests, "\n---\n") {
		object, err := yaml.YAMLToJSONStrict([]byte(part))
		require.NoErrorf(t, err, "%s", part)
		if string(object) != "null" {
			all = append(all, object)
		}
	}
	return all
}

// set returns a copy of the values in which one, named by its path, is changed.
func (v values) set(path string, value any) values {
	changed := values{}
	for key, old := range v {
		changed[key] = old
	}
	first, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		changed[first] = value
		return changed
	}
	inner, ok := changed[first].(map[string]any)
	if !ok {
		inner = map[string]any{}
	}
	changed[first] = map[string]any(values(inner).set(rest, value))
	return changed
}

// leaves calls found for each value of a chart that is not a group of others, with its path.
func leaves(prefix string, schema map[string]any, found func(path string)) {
	properties, ok := schema["properties"].(map[string]any)
	if !ok || schema["additionalProperties"] != false {
		found(prefix)
		return
	}
	for key, inner := range properties {
		path := key
		if prefix != "" {
			path = prefix + "." + key
		}
		inner, ok := inner.(map[string]any)
		if !ok {
			panic(fmt.Sprintf("%s has no schema", path))
		}
		leaves(path, inner, found)
	}
}
