package app

import (
	"context"
	"fmt"
	"time"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// topologyTimeout bounds the making and checking of streams and consumers: a cluster may be electing leaders.
const topologyTimeout = time.Minute

// ensureTopology makes or checks streams and consumers, as the configuration says. Its error names each difference
// and the command that changes it.
func ensureTopology(ctx context.Context, conn *bus.Conn, cfg *config.Config) error {
	if err := conn.CheckInbox(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, topologyTimeout)
	defer cancel()
	apply := topology.Manage
	if cfg.Topology.Mode == config.TopologyVerify {
		apply = topology.Verify
	}
	err := apply(bounded, conn, manager.Topology(cfg))
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("no answer from JetStream within %s; is it enabled in the server and for this account? %w", topologyTimeout, err)
	}
	return err
}
