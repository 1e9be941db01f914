package manager

import (
	"maps"
	"slices"

	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
)

// Topology returns the streams and consumers that a configuration wants. It is the same for every runner of
// the fleet.
func Topology(cfg *config.Config) topology.Topology {
	t := &cfg.Topology
	out := topology.Topology{
		Replicas: t.Replicas,
		AckWait:  t.AckWait,
		Jobs: topology.JobsLimits{
			MaxMsgs: t.Jobs.MaxMessages, MaxMsgsPerKind: t.Jobs.MaxMessagesPerKind,
			MaxBytes: int64(t.Jobs.MaxBytes), DuplicateWindow: t.Jobs.DuplicateWindow,
			MaxMessage: int64(t.Jobs.MaxMessageBytes),
		},
		Results: topology.ResultsLimits{
			MinAge: t.Results.MinAge, MaxAge: t.Results.MaxAge,
			MaxCount: t.Results.MaxCount, MaxBytes: int64(t.Results.MaxBytes),
		},
		Dead:      topology.DeadLimits{MaxAge: t.Dead.MaxAge, MaxBytes: int64(t.Dead.MaxBytes)},
		Control:   topology.ControlLimits{MaxAge: t.Control.MaxAge, MaxRequests: t.Control.MaxRequests, MaxBytes: int64(t.Control.MaxBytes)},
		State:     topology.StateLimits{MaxBytes: int64(t.State.MaxBytes)},
		Schedules: topology.StateLimits{MaxBytes: int64(t.Schedules.MaxBytes)},
		Audit:     topology.AuditLimits{MaxAge: t.Audit.MaxAge, MaxBytes: int64(t.Audit.MaxBytes)},
		Health:    topology.HealthLimits{MaxAge: t.Health.MaxAge, MaxBytes: int64(t.Health.MaxBytes)},
		Rows:      topology.ObjectLimits{MaxAge: t.Rows.MaxAge, MaxBytes: int64(t.Rows.MaxBytes)},
		Params:    topology.ObjectLimits{MaxAge: t.Params.MaxAge, MaxBytes: int64(t.Params.MaxBytes)},
	}
	for _, name := range DatabaseNames(cfg) {
		d := topology.Database{Name: name, Features: jobs.Features()}
		for _, l := range Lanes(cfg.Databases[name]) {
			d.Lanes = append(d.Lanes, topology.Lane{
				Name: l.Name, Queue: l.Queue, Ordered: l.Ordered, Kinds: l.Kinds, MaxAckPending: l.MaxAckPending(t.MaxAckPending),
				Subjects: l.Subjects, Filters: l.Filters, Optional: l.Optional,
			})
		}
		out.Databases = append(out.Databases, d)
	}
	return out
}

// DatabaseNames returns the names of the configured databases in order.
func DatabaseNames(cfg *config.Config) []string { return slices.Sorted(maps.Keys(cfg.Databases)) }
