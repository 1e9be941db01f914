package manager

import (
	"maps"
	"slices"

	"dbrunner/internal/bus"
	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
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
	for _, name := range DatabaseNames(cfg) {
		d := bus.DatabaseTopology{Name: name}
		for _, l := range jobs.Lanes() {
			pending := l.MaxAckPending(t.MaxAckPending)
			d.Lanes = append(d.Lanes, bus.LaneTopology{Name: l.Name, Kinds: l.Kinds, MaxAckPending: pending})
		}
		out.Databases = append(out.Databases, d)
	}
	return out
}

// DatabaseNames returns the names of the configured databases in order.
func DatabaseNames(cfg *config.Config) []string { return slices.Sorted(maps.Keys(cfg.Databases)) }
