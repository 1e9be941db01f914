package app_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// withHTTP has a runner listen on a free port, with all endpoints enabled.
func withHTTP(cfg *config.Config) {
	cfg.HTTP.Address, cfg.HTTP.LogLevel, cfg.HTTP.PProf = "127.0.0.1:0", true, true
}

// url is where a runner answers.
func (r *runner) url(t testing.TB, path string) string {
	t.Helper()
	var address string
	require.Eventually(t, func() bool {
		for _, entry := range r.logs.FilterMessage("HTTP endpoint listening").All() {
			address = entry.ContextMap()["address"].(string)
		}
		return address != ""
	}, testTimeout, time.Millisecond, "it does not listen")
	return "http://" + address + path
}

// get asks a runner; status 0: no answer.
func (r *runner) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	return fetch(t, http.MethodGet, r.url(t, path), "")
}

// fetch makes a request of its own, on a connection of its own. Status 0: no answer.
func fetch(t testing.TB, method, url, form string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form))
	require.NoError(t, err)
	request.Close = true
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// page is what a scrape has brought.
type page map[string]*dto.MetricFamily

func (r *runner) scrape(t testing.TB) page {
	t.Helper()
	status, body := r.get(t, "/metrics")
	require.Equal(t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	return families
}

// value returns the value of the one series with these labels, a histogram's count; -1 if there is none. Labels are
// written database=shop,kind=query; those that are left out may be anything, and several series are added up.
func (p page) value(name, labels string) float64 {
	family, found, sum := p[name], false, 0.0
	for _, m := range family.GetMetric() {
		if !fits(m, labels) {
			continue
		}
		found = true
		switch {
		case m.Counter != nil:
			sum += m.Counter.GetValue()
		case m.Gauge != nil:
			sum += m.Gauge.GetValue()
		default:
			sum += float64(m.Histogram.GetSampleCount())
		}
	}
	if !found {
		return -1
	}
	return sum
}

func fits(m *dto.Metric, labels string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for part := range strings.SplitSeq(labels, ",") {
		name, value, _ := strings.Cut(part, "=")
		if name != "" && have[name] != value {
			return false
		}
	}
	return true
}

// expect scrapes until all values, by "name labels", are as wanted.
func (r *runner) expect(t testing.TB, want map[string]float64) {
	t.Helper()
	have := map[string]float64{}
	if !wait(testTimeout, func() bool {
		p := r.scrape(t)
		for key := range want {
			name, labels, _ := strings.Cut(key, " ")
			have[key] = p.value(name, labels)
		}
		return maps.Equal(want, have)
	}) {
		require.Equal(t, want, have)
	}
}

// wait reports whether something came true in time.
func wait(limit time.Duration, done func() bool) bool {
	end := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if done() {
			return true
		}
		select {
		case <-end:
			return false
		case <-tick.C:
		}
	}
}
