package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dbrunner/internal/bus"
	"dbrunner/internal/config"
)

// Topology says in bus' words what streams and consumers a configuration wants. It is the same for every runner of
// the fleet.
func Topology(cfg *config.Config) bus.Topology {
	t := &cfg.Topology
	out := bus.Topology{
		Replicas: t.Replicas,
		AckWait:  t.AckWait,
		Jobs: bus.JobsLimits{
			MaxMsgs: t.Jobs.MaxMessages, MaxMsgsPerKind: t.Jobs.MaxMessagesPerKind,
			MaxBytes: int64(t.Jobs.MaxBytes), DuplicateWindow: t.Jobs.DuplicateWindow,
			MaxMessage: int64(t.Jobs.MaxMessageBytes),
		},
		Results: bus.ResultsLimits{
			MinAge: t.Results.MinAge, MaxAge: t.Results.MaxAge,
			MaxCount: t.Results.MaxCount, MaxBytes: int64(t.Results.MaxBytes),
		},
		Dead:    bus.DeadLimits{MaxAge: t.Dead.MaxAge, MaxBytes: int64(t.Dead.MaxBytes)},
		Control: bus.ControlLimits{MaxAge: t.Control.MaxAge, MaxRequests: t.Control.MaxRequests, MaxBytes: int64(t.Control.MaxBytes)},
		Health:  bus.HealthLimits{MaxAge: t.Health.MaxAge, MaxBytes: int64(t.Health.MaxBytes)},
		Rows:    bus.ObjectLimits{MaxAge: t.Rows.MaxAge, MaxBytes: int64(t.Rows.MaxBytes)},
		Params:  bus.ObjectLimits{MaxAge: t.Params.MaxAge, MaxBytes: int64(t.Params.MaxBytes)},
	}
	for _, name := range databaseNames(cfg) {
		d := bus.DatabaseTopology{Name: name}
		for _, l := range lanes() {
			pending := l.pendingOf(t.MaxAckPending)
			d.Lanes = append(d.Lanes, bus.LaneTopology{Name: l.name, Kinds: l.kinds, MaxAckPending: pending})
		}
		out.Databases = append(out.Databases, d)
	}
	return out
}

// databaseNames returns the names of the configured databases in order.
func databaseNames(cfg *config.Config) []string { return slices.Sorted(maps.Keys(cfg.Databases)) }

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
	err := makeTopology(bounded, conn, cfg)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("no answer from JetStream within %s; is it enabled in the server and for this account? %w", topologyTimeout, err)
	}
	return err
}

func makeTopology(ctx context.Context, conn *bus.Conn, cfg *config.Config) error {
	if cfg.Topology.Mode == config.TopologyVerify {
		return conn.Verify(ctx, Topology(cfg))
	}
	return conn.Manage(ctx, Topology(cfg))
}
