package kubernetes_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// The custom resources that the chart's options use, as their projects publish them.
const (
	kedaModule     = "github.com/kedacore/keda/v2@v2.21.0"
	operatorModule = "github.com/prometheus-operator/prometheus-operator@v0.94.1"
)

var resources = map[string]schema.GroupVersionResource{
	"ConfigMap":                {Version: "v1", Resource: "configmaps"},
	"Service":                  {Version: "v1", Resource: "services"},
	"ServiceAccount":           {Version: "v1", Resource: "serviceaccounts"},
	"Deployment":               {Group: "apps", Version: "v1", Resource: "deployments"},
	"PodDisruptionBudget":      {Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"},
	"NetworkPolicy":            {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
	"ScaledObject":             {Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"},
	"ServiceMonitor":           {Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"},
	"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
}

// TestReleases installs, upgrades and rolls back the chart on a real API server.
func TestReleases(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	client, err := dynamic.NewForConfig(c.config())
	require.NoError(t, err)
	createDefinitions(t, client)
	checkStrictness(t, client)

	// Strict validation by the server itself, of each value that has a mark in the manifests.
	for _, path := range slices.Sorted(maps.Keys(options)) {
		with, _ := withOption(path)
		manifests, err := render(t, with)
		require.NoError(t, err, manifests)
		for _, object := range objects(t, manifests) {
			require.NoErrorf(t, dryRun(t, client, object), "%s: %s", path, object)
		}
	}

	everything := plain
	for path, o := range options {
		if path != "image.digest" && path != "config" && path != "podDisruptionBudget.enabled" && path != "serviceAccount.create" && path != "secretFiles" {
			everything = everything.set(path, o.value)
		}
	}
	everything = everything.set("maxConnections", map[string]any{"shop": 99})
	install := func(args ...string) string {
		t.Helper()
		out, err := run(t, tool(t, helm), append(args, "--kubeconfig", c.kubeconfig)...)
		require.NoError(t, err, out)
		return out
	}

	install("install", "runners", chart, "--values", writeValues(t, plain))
	first := stored(t, client)
	assert.ElementsMatch(t, []string{"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}, slices.Collect(maps.Keys(first)))
	assert.EqualValues(t, 2, field(t, first["Deployment"], "spec", "replicas"))
	assert.EqualValues(t, 105, field(t, first["Deployment"], "spec", "template", "spec", "terminationGracePeriodSeconds"))

	install("upgrade", "runners", chart, "--values", writeValues(t, everything))
	second := stored(t, client)
	for _, kind := range []string{"ScaledObject", "ServiceMonitor", "NetworkPolicy"} {
		assert.Contains(t, second, kind)
	}
	assert.Equal(t, podHash(t, first), podHash(t, second), "the configuration is the same")

	// Only the configuration changes: the pods are replaced as well.
	install("upgrade", "runners", chart, "--values", writeValues(t, everything.set("config.api", map[string]any{"run": false})))
	assert.NotEqual(t, podHash(t, second), podHash(t, stored(t, client)))

	install("rollback", "runners", "1")
	last := stored(t, client)
	require.Equal(t, slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(last)))
	for kind := range first {
		assert.Equalf(t, content(first[kind]), content(last[kind]), "%s after the rollback", kind)
	}

	out := install("uninstall", "runners")
	assert.Contains(t, out, "uninstalled")
	assert.Empty(t, stored(t, client))
}

// createDefinitions creates the custom resources and waits until the server serves them.
func createDefinitions(t *testing.T, client dynamic.Interface) {
	t.Helper()
	for _, text := range []string{
		moduleFile(t, kedaModule, "config/crd/bases/keda.sh_scaledobjects.yaml"),
		moduleFile(t, operatorModule, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
	} {
		var object map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(text), &object))
		_, err := client.Resource(resources["CustomResourceDefinition"]).Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for _, kind := range []string{"ScaledObject", "ServiceMonitor"} {
		require.Eventuallyf(t, func() bool {
			_, err := client.Resource(resources[kind]).Namespace("default").List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
			return err == nil
		}, time.Minute, 100*time.Millisecond, "the server does not serve %s", kind)
	}
}

// dryRun has the server validate an object strictly: unknown and duplicate fields are errors.
func dryRun(t *testing.T, client dynamic.Interface, object []byte) error {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, u.UnmarshalJSON(object))
	require.Containsf(t, resources, u.GetKind(), "%s", object)
	_, err := client.Resource(resources[u.GetKind()]).Namespace("default").Create(t.Context(), u,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// checkStrictness shows that dryRun finds mistakes, in custom resources as well.
func checkStrictness(t *testing.T, client dynamic.Interface) {
	t.Helper()
	for _, text := range []string{
		`{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: a}, spec: {scaleTargetRef: {name: a}, minReplicas: 1, triggers: [{type: cron, metadata: {}}]}}`,
		`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {maxUnavailabel: 1}}`,
	} {
		object, err := yaml.YAMLToJSON([]byte(text))
		require.NoError(t, err)
		require.ErrorContains(t, dryRun(t, client, object), "unknown field")
	}
}

// stored returns the release's objects in the server, by kind.
func stored(t *testing.T, client dynamic.Interface) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for kind, resource := range resources {
		if kind == "CustomResourceDefinition" {
			continue
		}
		list, err := client.Resource(resource).Namespace("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=runners"})
		require.NoError(t, err)
		require.LessOrEqual(t, len(list.Items), 1)
		for i := range list.Items {
			found[kind] = &list.Items[i]
		}
	}
	return found
}

// content returns what a release says of an object: everything but what the server adds.
func content(u *unstructured.Unstructured) map[string]any {
	object := u.DeepCopy()
	for _, key := range []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"} {
		unstructured.RemoveNestedField(object.Object, "metadata", key)
	}
	unstructured.RemoveNestedField(object.Object, "status")
	return object.Object
}

func podHash(t *testing.T, objects map[string]*unstructured.Unstructured) any {
	t.Helper()
	return field(t, objects["Deployment"], "spec", "template", "metadata", "annotations", "checksum/config")
}

func field(t *testing.T, u *unstructured.Unstructured, path ...string) any {
	t.Helper()
	require.NotNil(t, u)
	value, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	require.NoError(t, err)
	require.Truef(t, found, "%s has no %s", u.GetKind(), strings.Join(path, "."))
	return value
}
