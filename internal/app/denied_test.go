package app_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// TestARequestersMistakeIsNoAlarm: answers wanted where the runner may not publish are counted apart.
func TestARequestersMistakeIsNoAlarm(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	shop := withSQLite(t, "shop")
	maker, cfg := w.client("topology", shop)
	require.NoError(t, topology.Manage(t.Context(), maker, manager.Topology(cfg)))
	r := w.start(w.signedIn("r1", "runner", shop, withHTTP, func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify }))
	flow := w.as("flow")
	for i := range 20 {
		require.NoError(t, flow.nc.PublishRequest("dbrunner.api.health.shop", fmt.Sprintf("elsewhere.%d", i), nil))
	}
	r.expect(t, map[string]float64{"dbrunner_nats_denied_replies_total": 20, "dbrunner_nats_denied_subjects": 0})
	operator := w.as("operator")
	awaitLast(operator.world, "dbrunner.health.runner.r1", func(h *struct {
		Denied  []string `json:"nats_denied"`
		Replies int      `json:"nats_denied_replies"`
	},
	) bool {
		return h.Replies == 20 && len(h.Denied) == 0
	})
}
