package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
	"dbrunner/internal/report"
)

const (
	alertsFile    = "../../deploy/alerts.yml"
	dashboardFile = "../../deploy/grafana-dashboard.json"
)

// Alerts and dashboard ask for metrics and labels that a runner has, and for words that these can be.
func TestAlertsAndDashboardAskForWhatIsThere(t *testing.T) {
	t.Parallel()
	w := setup(t)
	catalog := catalogOf(t, t.TempDir(), map[string]string{"one": "sql: SELECT 1 AS n\n"}, jobs.Kinds()...)
	r := w.start(w.config("r1", withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), catalog, withQueue("bulk", 2, 3)), withHTTP, func(cfg *config.Config) {
		cfg.Databases["shop"].Outbox.Targets = []string{"jobs.shop.transaction"}
	}))
	mixedWork(t, w)
	require.Equal(t, "succeeded", w.do("shop", "call.one", "one", `"labels":{}`).Status)
	r.expect(t, map[string]float64{"dbrunner_jobs_total ": 9, "dbrunner_calls_total call=one": 1})
	require.True(t, wait(testTimeout, func() bool {
		return r.scrape(t).value("dbrunner_queue_waiting", "") >= 0 && r.scrape(t)["dbrunner_outbox_waiting"] != nil
	}))
	p := r.scrape(t)
	requireDocumented(t, p)
	for name, expression := range alertExpressions(t) {
		requireKnown(t, p, name, expression)
	}
	seen := map[string]bool{}
	for name, expression := range dashboardExpressions(t) {
		for _, metric := range requireKnown(t, p, name, expression) {
			seen[metric] = true
		}
	}
	require.Greater(t, len(seen), 25, "the dashboard shows most of what there is")
}

// The page for operators names every metric that there is, and no other.
func requireDocumented(t *testing.T, p page) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`(dbrunner_[a-z_]+[a-z])`").FindAllStringSubmatch(string(text), -1)
	shortened := regexp.MustCompile("`…(_[a-z_]+)`").FindAllStringSubmatch(string(text), -1)
	known := map[string]bool{}
	for _, m := range named {
		require.NotNil(t, p[m[1]], "the page lists %s, which does not exist", m[1])
		known[m[1]] = true
	}
	for name := range p {
		if !strings.HasPrefix(name, "dbrunner_") || known[name] {
			continue
		}
		require.True(t, slices.ContainsFunc(shortened, func(m []string) bool { return strings.HasSuffix(name, m[1]) }),
			"the page does not list %s", name)
	}
}

func alertExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(alertsFile)
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	require.NoError(t, dec.Decode(&file))
	out := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			require.NotContains(t, out, rule.Alert, "two alerts of one name")
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			out[rule.Alert] = rule.Expr
		}
	}
	require.Greater(t, len(out), 10)
	return out
}

func dashboardExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var board struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	out := map[string]string{}
	ids := map[int]bool{}
	for _, v := range board.Templating.List {
		if v.Definition != "" {
			out["variable "+v.Name] = v.Definition
		}
	}
	for _, panel := range board.Panels {
		require.False(t, ids[panel.ID], "two panels of one id")
		ids[panel.ID] = true
		require.Equal(t, panel.Type != "row", len(panel.Targets) > 0, panel.Title)
		for i, target := range panel.Targets {
			out[panel.Title+" "+string(rune('A'+i))+" "+target.LegendFormat] = target.Expr
		}
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b((?:dbrunner|go|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	anyWord    = regexp.MustCompile(`[a-z_]+`)
)

// requireKnown checks an expression and returns the metrics that it names.
func requireKnown(t *testing.T, p page, where, expression string) []string {
	t.Helper()
	require.Equal(t, strings.Count(expression, "("), strings.Count(expression, ")"), where)
	labels := map[string]bool{"instance": true, "le": true} // of Prometheus itself
	var found []string
	for _, m := range metricName.FindAllStringSubmatch(expression, -1) {
		family := familyOf(p, m[1])
		require.NotNil(t, family, "%s: a runner has no metric %s", where, m[1])
		found = append(found, family.GetName())
		own := map[string]bool{}
		for _, series := range family.GetMetric() { // some have the label queue
			for _, label := range series.GetLabel() {
				own[label.GetName()], labels[label.GetName()] = true, true
			}
		}
		for _, match := range matcher.FindAllStringSubmatch(m[2], -1) {
			require.True(t, own[match[1]], "%s: %s has no label %s", where, m[1], match[1])
			requireWord(t, where, match[1], match[2], match[3])
		}
	}
	require.NotEmpty(t, found, "%s: %s", where, expression)
	for _, m := range grouping.FindAllStringSubmatch(expression, -1) {
		for _, label := range anyWord.FindAllString(m[1], -1) {
			require.True(t, labels[label], "%s: none of its metrics has the label %s", where, label)
		}
	}
	return found
}

// familyOf finds a metric; of a histogram also its series.
func familyOf(p page, name string) *dto.MetricFamily {
	if p[name] != nil {
		return p[name]
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, ok := strings.CutSuffix(name, suffix)
		if ok && p[base] != nil && p[base].GetType() == dto.MetricType_HISTOGRAM {
			return p[base]
		}
	}
	return nil
}

// requireWord checks the value that a label is compared with against what it can be.
func requireWord(t *testing.T, where, label, operator, value string) {
	t.Helper()
	if operator == "=~" || operator == "!~" {
		require.True(t, strings.HasPrefix(value, "$"), "%s: spell the words out", where)
		return
	}
	known := map[string][]string{
		"status":  {"succeeded", "failed", "rejected", "cancelled", "expired", "unknown"},
		"kind":    jobs.Kinds(),
		"reason":  contract.DeadLetterReasons(),
		"state":   {"idle", "in_use", "all", "paused", "finished", "failing"},
		"outcome": {"fired", "missed", "skipped", "unconfirmed"},
		"code":    {""},
		"queue":   {""}, // not of a queue; any other is an installation's own name
	}
	for _, code := range contract.Codes() {
		known["code"] = append(known["code"], string(code))
	}
	for end := report.Settled; end <= report.LeaseLost; end++ {
		known["disposition"] = append(known["disposition"], end.String())
	}
	require.Contains(t, known[label], value, "%s: label %s", where, label)
}
