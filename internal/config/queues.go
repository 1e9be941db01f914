package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
)

const (
	defaultQueueSlots = 2  // jobs of a queue that one runner has in flight
	maxQueues         = 16 // of a database
	queuesKey         = "queues"
	queueRule         = "write 1 to 64 of a-z 0-9 _"
)

// findQueues puts the queues that the environment lists, <NAME>_QUEUES, into the file's keys.
func (e *environment) findQueues(written map[string]any) {
	for _, database := range e.databases {
		path := join(join(databasesKey, database), queuesKey)
		variable := envName(path)
		e.known[variable] = true
		if e.vars[variable] == "" {
			continue
		}
		for i, name := range strings.Split(e.vars[variable], ",") {
			name = strings.TrimSpace(name)
			at := join(path, name)
			switch {
			case !contract.ValidQueue(name):
				e.faults.list = append(e.faults.list, Fault{
					Env: variable, Message: "name " + strconv.Itoa(i+1) + " in the list is not a valid queue name; " + queueRule,
				})
			case e.room(join(at, "slots")) && !slices.Contains(e.queuesOf(path), name):
				put(written, strings.Split(at, "."), map[string]any{})
				e.faults.origins[at] = origin{env: variable}
			}
		}
	}
}

// queuesOf returns the names of the queues at a path.
func (e *environment) queuesOf(path string) []string {
	at := e.file
	for part := range strings.SplitSeq(path, ".") {
		at, _ = at[part].(map[string]any)
	}
	return slices.Sorted(maps.Keys(at))
}

// fillQueues completes the limits of queues.
func (c *Config) fillQueues() {
	for _, d := range c.Databases {
		for _, q := range d.Queues {
			if q.Ordered {
				q.Slots, q.FleetSlots = cmp.Or(q.Slots, 1), cmp.Or(q.FleetSlots, 1)
			}
			q.FleetSlots = cmp.Or(q.FleetSlots, c.Topology.MaxAckPending)
			q.Slots = cmp.Or(q.Slots, min(defaultQueueSlots, q.FleetSlots))
		}
	}
}

// queues keeps connections free for jobs of no queue.
func (c *checker) queues(database string, d *Database) {
	path, most := join(database, queuesKey), join(database, "pool.max")
	c.want(len(d.Queues) <= maxQueues, fmt.Sprintf("the database has %d queues; write at most %d", len(d.Queues), maxQueues), path)
	for name, q := range d.Queues {
		slots, fleet := join(join(path, name), "slots"), join(join(path, name), "fleet_slots")
		if q.Ordered {
			c.ordered(database, name, d)
		}
		c.want(q.Slots < d.Pool.Max, fmt.Sprintf("%d jobs of the queue at a time could take all %d connections of the pool, so that other jobs "+
			"wait for them; write slots below pool.max, or raise pool.max", q.Slots, d.Pool.Max), slots, most)
		c.want(q.Slots <= q.FleetSlots, fmt.Sprintf("one runner cannot have %d jobs of the queue in flight when the fleet may have %d; lower "+
			"slots or raise fleet_slots", q.Slots, q.FleetSlots), slots, fleet)
	}
}

// ordered checks an ordered queue.
func (c *checker) ordered(database, name string, d *Database) {
	queue := join(join(database, queuesKey), name)
	at := join(queue, "ordered")
	for _, key := range []string{"slots", "fleet_slots"} {
		_, written := c.faults.origins[join(queue, key)]
		c.want(!written, "an ordered queue runs one job at a time in the whole fleet; leave "+key+" out", join(queue, key))
	}
	c.want(d.HasLedger(), "jobs of an ordered queue need a ledger; write ledger.mode: manage or verify", at, join(database, "ledger.mode"))
	c.want(len(d.Effects) == 0 || slices.Contains(d.Effects, string(contract.ExactlyOnce)),
		"an ordered queue takes only jobs with the effect exactly_once; add it to effects", at, join(database, "effects"))
	c.want(len(d.Kinds) == 0 || slices.Contains(d.Kinds, "transaction") || slices.Contains(d.Kinds, "call"),
		"an ordered queue takes only jobs of the kinds transaction and call; add one of them to kinds", at, join(database, "kinds"))
}

// queueSlots is how many jobs of queues one runner may have in flight.
func (d *Database) queueSlots() int {
	sum := 0
	for _, q := range d.Queues {
		sum += q.Slots
	}
	return sum
}
