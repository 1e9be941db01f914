package kubernetes_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// plain are values as a first user writes them.
var plain = values{
	"config": map[string]any{
		"nats":      map[string]any{"urls": []any{"nats://nats:4222"}},
		"worker":    map[string]any{"drain_timeout": "1m30s"},
		"defaults":  map[string]any{"pool": map[string]any{"max": 8}},
		"databases": map[string]any{"shop": map[string]any{"type": "postgres", "connection_string_file": "/run/secrets/dbrunner/shop"}},
	},
	"secretFiles": []any{map[string]any{"secret": "shop-database", "key": "connection_string", "path": "shop"}},
}

// option is a value other than its default, the values that it needs to matter, and what the manifests must then contain.
type option struct {
	value any
	with  values
	want  string
}

var (
	withKEDA    = values{"keda": map[string]any{"enabled": true, "monitoringEndpoint": "nats.nats.svc:8222"}}
	withPolicy  = values{"networkPolicy": map[string]any{"enabled": true}}
	withMonitor = values{"serviceMonitor": map[string]any{"enabled": true}}
)

// options has every value of the chart.
var options = map[string]option{
	"image.repository":                   {value: "registry.example/dbrunner", want: `image: "registry.example/dbrunner:`},
	"image.tag":                          {value: "1.2.3", want: `image: "dbrunner:1.2.3"`},
	"image.digest":                       {value: "sha256:" + strings.Repeat("0a", 32), want: `image: "dbrunner@sha256:0a0a`},
	"image.pullPolicy":                   {value: "Always", want: "imagePullPolicy: Always"},
	"imagePullSecrets":                   {value: []any{map[string]any{"name": "registry"}}, want: "imagePullSecrets:\n        - name: registry"},
	"replicas":                           {value: 5, want: "replicas: 5"},
	"config":                             {value: map[string]any{"namespace": "jobs"}, want: "runner.yaml: |\n    databases: {}\n    namespace: jobs"},
	"secretFiles":                        {value: []any{map[string]any{"secret": "nats", "key": "runner.creds", "path": "nats.creds"}}, want: `secret: {name: "nats", items: [{key: "runner.creds", path: "nats.creds"}]}`},
	"migrations":                         {value: map[string]any{"shop": "shop-sql"}, want: `mountPath: "/etc/dbrunner/migrations/shop"`},
	"maxConnections":                     {value: map[string]any{"shop": 22}},
	"drainMargin":                        {value: 20, want: "terminationGracePeriodSeconds: 110"},
	"http.port":                          {value: 9090, want: `value: ":9090"`},
	"extraEnv":                           {value: []any{map[string]any{"name": "TZ", "value": "UTC"}}, want: "name: TZ"},
	"extraVolumes":                       {value: []any{map[string]any{"name": "data", "emptyDir": map[string]any{}}}, want: "name: data"},
	"extraVolumeMounts":                  {value: []any{map[string]any{"name": "tmp", "mountPath": "/data"}}, want: "mountPath: /data"},
	"resources":                          {value: map[string]any{"limits": map[string]any{"memory": "1Gi"}}, want: "memory: 1Gi"},
	"podDisruptionBudget.enabled":        {value: false},
	"podDisruptionBudget.maxUnavailable": {value: "50%", want: "maxUnavailable: 50%"},
	"serviceAccount.create":              {value: false, want: "serviceAccountName: default"},
	"serviceAccount.name":                {value: "jobs", want: "serviceAccountName: jobs"},
	"serviceAccount.annotations":         {value: map[string]any{"a": "b"}, want: "annotations:\n    a: b"},
	"podAnnotations":                     {value: map[string]any{"a": "b"}, want: "        a: b"},
	"podLabels":                          {value: map[string]any{"team": "data"}, want: "        team: data"},
	"nodeSelector":                       {value: map[string]any{"disk": "ssd"}, want: "nodeSelector:\n        disk: ssd"},
	"tolerations":                        {value: []any{map[string]any{"key": "jobs", "operator": "Exists"}}, want: "tolerations:\n        - key: jobs"},
	"affinity":                           {value: map[string]any{"nodeAffinity": map[string]any{}}, want: "affinity:\n        nodeAffinity: {}"},
	"topologySpreadConstraints":          {value: []any{map[string]any{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": map[string]any{}}}, want: "maxSkew: 1"},
	"priorityClassName":                  {value: "high", want: "priorityClassName: high"},
	"serviceMonitor.enabled":             {value: true, want: "kind: ServiceMonitor"},
	"serviceMonitor.interval":            {value: "1m", with: withMonitor, want: "interval: 1m"},
	"serviceMonitor.labels":              {value: map[string]any{"release": "prometheus"}, with: withMonitor, want: "release: prometheus"},
	"keda.enabled":                       {value: true, with: withKEDA.set("keda.enabled", false), want: `stream: "DBRUNNER_JOBS_shop"`},
	"keda.monitoringEndpoint":            {value: "nats:8223", with: withKEDA, want: `natsServerMonitoringEndpoint: "nats:8223"`},
	"keda.account":                       {value: "JOBS", with: withKEDA, want: `account: "JOBS"`},
	"keda.useHTTPS":                      {value: true, with: withKEDA, want: `useHttps: "true"`},
	"keda.minReplicas":                   {value: 2, with: withKEDA, want: "minReplicaCount: 2"},
	"keda.maxReplicas":                   {value: 9, with: withKEDA, want: "maxReplicaCount: 9"},
	"keda.lagThreshold":                  {value: 7, with: withKEDA, want: `lagThreshold: "7"`},
	"keda.pollingInterval":               {value: 31, with: withKEDA, want: "pollingInterval: 31"},
	"keda.cooldownPeriod":                {value: 61, with: withKEDA, want: "cooldownPeriod: 61"},
	"networkPolicy.enabled":              {value: true, want: "kind: NetworkPolicy"},
	"networkPolicy.metricsFrom":          {value: []any{map[string]any{"podSelector": map[string]any{}}}, with: withPolicy, want: "podSelector: {}"},
	"networkPolicy.egress":               {value: []any{map[string]any{"ports": []any{map[string]any{"port": 4222}}}}, with: withPolicy, want: "- port: 4222"},
}

// withOption returns the plain values with an option set, and without it.
func withOption(path string) (with, without values) {
	o := options[path]
	without = maps.Clone(plain)
	maps.Copy(without, o.with)
	return without.set(path, o.value), without
}

// unmarked are values without a mark in the manifests: one removes an object, one only checks.
var unmarked = []string{"podDisruptionBudget.enabled", "maxConnections"}

func TestLint(t *testing.T) {
	t.Parallel()
	out, err := run(t, tool(t, helm), "lint", "--strict", chart)
	require.NoError(t, err, out)
	assert.NotContains(t, out, "[WARNING]")
	assert.NotContains(t, out, "[ERROR]")
}

func TestEveryValue(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(text, &schema))
	var listed []string
	leaves("", schema, func(path string) {
		if path != "global" { // Helm's own
			listed = append(listed, path)
		}
	})
	require.ElementsMatch(t, slices.Collect(maps.Keys(options)), listed, "the values of this test and of the chart's schema")

	for path := range options {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			with, without := withOption(path)
			before, err := render(t, without)
			require.NoError(t, err, before)
			after, err := render(t, with)
			require.NoError(t, err, after)
			decodeStrictly(t, after)
			if want := options[path].want; want != "" {
				assert.NotContains(t, before, want)
				assert.Contains(t, after, want)
			} else {
				assert.Contains(t, unmarked, path)
			}
		})
	}
}

// decodeStrictly decodes each object into the type of its kind. The API server of TestReleases judges custom resources.
func decodeStrictly(t *testing.T, manifests string) {
	t.Helper()
	types := map[string]func() any{
		"ConfigMap":           func() any { return &corev1.ConfigMap{} },
		"Service":             func() any { return &corev1.Service{} },
		"ServiceAccount":      func() any { return &corev1.ServiceAccount{} },
		"Deployment":          func() any { return &appsv1.Deployment{} },
		"PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
		"NetworkPolicy":       func() any { return &networkingv1.NetworkPolicy{} },
	}
	for _, object := range objects(t, manifests) {
		var head struct{ Kind string }
		require.NoError(t, yaml.Unmarshal(object, &head))
		if head.Kind == "ScaledObject" || head.Kind == "ServiceMonitor" {
			continue
		}
		require.Containsf(t, types, head.Kind, "a kind without a type: %s", object)
		require.NoErrorf(t, yaml.UnmarshalStrict(object, types[head.Kind]()), "%s", object)
	}
}

func TestRefusedValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values values
		want   []string
	}{
		"too many connections": {plain.set("maxConnections", map[string]any{"shop": 21}), []string{"maxConnections.shop is 21", "2 runners may open 22 connections", "lower pool.max"}},
		"too many connections at the largest scale": {
			plain.set("keda", map[string]any{"enabled": true, "monitoringEndpoint": "nats:8222", "maxReplicas": 10}).set("maxConnections", map[string]any{"shop": 109}),
			[]string{"10 runners may open 110 connections"},
		},
		"a pool of the default size":     {plain.set("config.defaults", map[string]any{}).set("maxConnections", map[string]any{"shop": 35}), []string{"open 36 connections", "pool.max 15"}},
		"a connection of the outbox":     {plain.set("config.databases.shop.outbox", map[string]any{"targets": []any{"jobs.shop.query"}}).set("maxConnections", map[string]any{"shop": 23}), []string{"2 runners may open 24 connections", "pool.max 8 + 4"}},
		"direct connections":             {plain.set("config.databases.shop.direct_connection_string_file", "/run/secrets/dbrunner/direct").set("maxConnections", map[string]any{"shop": 29}), []string{"2 runners may open 30 connections", "pool.max 8 + 7"}},
		"a limit of an unknown database": {plain.set("maxConnections", map[string]any{"shpo": 50}), []string{"config.databases has no shpo"}},
		"a connection string":            {plain.set("config.databases.shop.connection_string", "postgres://u:hunter2@h/db"), []string{"config.databases.shop.connection_string", "secretFiles", "connection_string_file"}},
		"a password":                     {plain.set("config.nats.password", "hunter2"), []string{"config.nats.password is a secret", "password_file"}},
		"a token":                        {plain.set("config.nats.token", "hunter2"), []string{"config.nats.token is a secret"}},
		"a login of the migrations":      {plain.set("config.databases.shop.migrations.connection_string", "postgres://h/db"), []string{"config.databases.shop.migrations.connection_string"}},
		"a password in a URL":            {plain.set("config.nats.urls", []any{"nats://nats:4222", "nats://runner:hunter2@nats:4222"}), []string{"config.nats.urls[1]", "user or a password"}},
		"an unknown value":               {plain.set("replica", 3), []string{"replica"}},
		"a wrong type":                   {plain.set("replicas", "three"), []string{"replicas", "integer"}},
		"a drain without a unit":         {plain.set("config.worker.drain_timeout", "30"), []string{"config.worker.drain_timeout", "such as 30s"}},
		"KEDA without a server":          {plain.set("keda.enabled", true), []string{"keda.monitoringEndpoint is missing"}},
		"KEDA without a queue":           {plain.set("keda", map[string]any{"enabled": true, "monitoringEndpoint": "nats:8222"}).set("config.databases", nil), []string{"config.databases is empty"}},
		"KEDA upside down":               {plain.set("keda", map[string]any{"enabled": true, "monitoringEndpoint": "nats:8222", "minReplicas": 5}), []string{"keda.minReplicas is 5"}},
		"a path out of the folder":       {plain.set("secretFiles", []any{map[string]any{"secret": "a", "key": "b", "path": "../c"}}), []string{"secretFiles"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := render(t, test.values)
			require.Error(t, err, out)
			for _, want := range test.want {
				assert.Contains(t, out, want)
			}
			assert.NotContains(t, out, "hunter2")
		})
	}
}

// TestScalersOfEveryConsumer: KEDA looks at each consumer whose jobs more runners drain faster, not only at that of lane work.
func TestScalersOfEveryConsumer(t *testing.T) {
	t.Parallel()
	scaled := values(maps.Clone(plain)).set("keda", map[string]any{"enabled": true, "monitoringEndpoint": "nats:8222"})
	for name, test := range map[string]struct {
		values values
		want   []string
	}{
		"without queues": {scaled, []string{"work"}},
		"queues":         {scaled.set("config.databases.shop.queues", map[string]any{"bulk": nil, "feed": map[string]any{"ordered": true}, "reports": map[string]any{"slots": 4}}), []string{"work", "queue_bulk", "queue_reports"}},
		"calls":          {scaled.set("config.databases.shop.kinds", []any{"call", "health"}), []string{"work", "call"}},
		"dry runs":       {scaled.set("config.defaults.kinds", []any{"query", "dry_run", "approve"}), []string{"work", "call"}},
		"its own kinds":  {scaled.set("config.defaults.kinds", []any{"call"}).set("config.databases.shop.kinds", []any{"query"}), []string{"work"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := render(t, test.values)
			require.NoError(t, err, out)
			var scaler struct {
				Kind string
				Spec struct {
					Triggers []struct{ Metadata map[string]string }
				}
			}
			for _, object := range objects(t, out) {
				if require.NoError(t, yaml.Unmarshal(object, &scaler)); scaler.Kind == "ScaledObject" {
					break
				}
			}
			var consumers []string
			for _, trigger := range scaler.Spec.Triggers {
				assert.Equal(t, "DBRUNNER_JOBS_shop", trigger.Metadata["stream"])
				consumers = append(consumers, trigger.Metadata["consumer"])
			}
			assert.Equal(t, test.want, consumers)
		})
	}
}

// The runner reads the configuration that the chart writes.
func TestRunnerReadsTheConfiguration(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	secret := filepath.Join(folder, "shop")
	require.NoError(t, os.WriteFile(secret, []byte("postgres://runner@127.0.0.1:1/shop?sslmode=disable"), 0o600))
	manifests, err := render(t, plain.
		set("config.databases.shop.connection_string_file", secret).
		set("config.databases.files", map[string]any{"type": "sqlite", "connection_string": "/data/files.db", "ledger": map[string]any{"mode": "off"}}))
	require.NoError(t, err, manifests)
	var file string
	for _, object := range objects(t, manifests) {
		var c corev1.ConfigMap
		require.NoError(t, yaml.Unmarshal(object, &c))
		if c.Kind == "ConfigMap" {
			file = filepath.Join(folder, "runner.yaml")
			require.NoError(t, os.WriteFile(file, []byte(c.Data["runner.yaml"]), 0o600))
		}
	}
	require.NotEmpty(t, file)
	out, err := run(t, "go", "run", "-C", "../..", "./cmd/runner", "check", "--config", file)
	require.NoError(t, err, out)
	assert.Regexp(t, `(?m)^shop .* 5-8 `, out) // the pool of config.defaults
}
