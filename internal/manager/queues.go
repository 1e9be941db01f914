package manager

import (
	"maps"
	"slices"

	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
)

// Lanes returns the lanes of a configured database: those of its kinds, and one for each of its queues.
func Lanes(d *config.Database) []jobs.Lane {
	lanes := jobs.Lanes(d.Kinds)
	for _, name := range slices.Sorted(maps.Keys(d.Queues)) {
		q := d.Queues[name]
		lanes = append(lanes, jobs.QueueLane(name, q.Slots, q.FleetSlots, q.Ordered, d.Kinds))
	}
	return lanes
}

// orderedQueues returns the names of a database's ordered queues.
func orderedQueues(d *config.Database) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d.Queues)) {
		if d.Queues[name].Ordered {
			names = append(names, name)
		}
	}
	return names
}
