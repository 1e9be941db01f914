package app_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// reportLimit is within what every change at the streams has to be reported.
const reportLimit = 30 * time.Second

// ready asks until /readyz answers with a status and a text.
func (r *runner) ready(t *testing.T, status int, text string) {
	t.Helper()
	var have int
	var body string
	if !wait(testTimeout, func() bool {
		have, body = r.get(t, "/readyz")
		return have == status && strings.Contains(body, text)
	}) {
		require.FailNow(t, "not the readiness that was expected", "want %d %q, have %d %s", status, text, have, body)
	}
}

// topologyHeartbeat is what tests look at of streams and consumers in a heartbeat.
type topologyHeartbeat struct {
	Topology []struct {
		Resource string `json:"resource"`
		Effect   string `json:"effect"`
		Problem  string `json:"problem"`
		Remedy   string `json:"remedy"`
	} `json:"topology"`
	Databases []struct {
		State   string `json:"state"`
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
	} `json:"databases"`
}

func awaitTopology(w *world, effect, problem, verdict string) {
	w.t.Helper()
	awaitLast(w, "dbrunner.health.runner.r1", func(h *topologyHeartbeat) bool {
		for _, p := range h.Topology {
			if p.Effect == effect && strings.Contains(p.Problem, problem) && p.Remedy != "" {
				return len(h.Databases) == 1 && h.Databases[0].Verdict == verdict
			}
		}
		return effect == "" && len(h.Topology) == 0 && h.Databases[0].Verdict == verdict
	})
}

// TestPausedConsumerStopsReadiness: within half a minute every endpoint reports it.
func TestPausedConsumerStopsReadiness(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop"), withHTTP))
	r.ready(t, http.StatusOK, "")
	paused := time.Now()
	_, err := w.js.PauseConsumer(t.Context(), "DBRUNNER_JOBS_shop", "work", paused.Add(time.Hour))
	require.NoError(t, err)
	r.ready(t, http.StatusServiceUnavailable, "nats consumer resume DBRUNNER_JOBS_shop work")
	require.Less(t, time.Since(paused), reportLimit)
	awaitTopology(w, "stops", "is paused until", "unhealthy")
	r.expect(t, map[string]float64{"dbrunner_ready": 0})
	found := findings(t, w.config("r2", withSQLite(t, "shop")))
	require.Contains(t, strings.Join(faults(t, found), "\n"), "consumer DBRUNNER_JOBS_shop/work is paused until")
	_, err = w.js.ResumeConsumer(t.Context(), "DBRUNNER_JOBS_shop", "work")
	require.NoError(t, err)
	r.ready(t, http.StatusOK, "")
	awaitTopology(w, "", "", "healthy")
	require.Equal(t, "succeeded", w.do("shop", "query", "after", `"sql":"SELECT 1"`).Status)
}

// TestEditedSettingsDegrade a database that goes on working.
func TestEditedSettingsDegrade(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop"), withHTTP))
	s, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	edited := s.CachedInfo().Config
	edited.Discard, edited.DiscardNewPerSubject = jetstream.DiscardOld, false
	_, err = w.js.UpdateStream(t.Context(), edited)
	require.NoError(t, err)
	awaitTopology(w, "differs", "discard is DiscardOld", "degraded")
	r.ready(t, http.StatusOK, "")
	require.Equal(t, "succeeded", w.do("shop", "query", "meanwhile", `"sql":"SELECT 1"`).Status)
}

// TestRemovedStreams of a runner that creates nothing stop it; one that manages creates them again and its jobs finish.
func TestRemovedStreams(t *testing.T) {
	t.Parallel()
	all := []string{
		"DBRUNNER_RESULTS_shop", "DBRUNNER_JOBS_shop", "DBRUNNER_DEAD", "KV_DBRUNNER_CONTROL", "OBJ_DBRUNNER_ROWS", "OBJ_DBRUNNER_PARAMS",
		"DBRUNNER_HEALTH",
	}
	w := setup(t)
	maker, cfg := w.client("maker", withSQLite(t, "shop"))
	_, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	verifying := w.start(w.config("r1", withSQLite(t, "shop"), withHTTP, func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify }))
	verifying.ready(t, http.StatusOK, "")
	for i, name := range all {
		require.NoError(t, w.js.DeleteStream(t.Context(), name))
		if i < len(all)-2 {
			continue // these are reported together, and the last one alone cannot be read from the stream of heartbeats
		}
		verifying.ready(t, http.StatusServiceUnavailable, "stream "+name+" is missing (runner topology apply creates it)")
		if name != "DBRUNNER_HEALTH" {
			for _, missing := range all[:len(all)-1] {
				verifying.ready(t, http.StatusServiceUnavailable, "stream "+missing+" is missing (runner topology apply creates it)")
				awaitTopology(w, "stops", missing+" is missing", "unhealthy")
			}
		}
	}
	verifying.expect(t, map[string]float64{"dbrunner_ready": 0})
	_, err = topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	verifying.ready(t, http.StatusOK, "")
	awaitTopology(w, "", "", "healthy")
	require.Equal(t, "succeeded", w.do("shop", "query", "after", `"sql":"SELECT 1"`).Status)
	verifying.end(t)

	managing := w.start(w.config("r2", withSQLite(t, "shop"), withHTTP))
	for _, name := range all {
		require.NoError(t, w.js.DeleteStream(t.Context(), name))
	}
	for _, name := range all {
		require.Eventually(t, func() bool {
			_, err := w.js.Stream(context.Background(), name)
			return err == nil
		}, reportLimit, 20*time.Millisecond, "%s is created again", name)
	}
	require.Equal(t, "succeeded", w.do("shop", "query", "again", `"sql":"SELECT 2"`).Status)
	managing.ready(t, http.StatusOK, "")
}
