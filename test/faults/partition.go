package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"dbrunner/test/faults/network"
)

// networkNemeses are the faults of the network between the servers of the cluster, and between one runner and its servers.
func networkNemeses() []nemesis {
	return []nemesis{
		{"nats_partition", "the servers of the cluster are cut off from one another: one, or each", 1500 * time.Millisecond, natsPartition},
		{"nats_oneway", "nothing that one server of the cluster sends reaches the others", 1500 * time.Millisecond, natsOneWay},
		{"way_database", "a runner reaches NATS and not its database", 800 * time.Millisecond, wayLost(toDatabase)},
		{"way_nats", "a runner reaches its database and not NATS", 800 * time.Millisecond, wayLost(toNATS)},
		{"way_slow", "each runner's network delays by 200 ms and loses 5 %", 800 * time.Millisecond, waySlow},
	}
}

// replaying are the faults under which the next leader of a results stream may publish again what the one before it had published, but
// not yet reported as committed to it.
var replaying = []string{"nats_crash", "nats_kill", "nats_restart", "nats_stop", "nats_partition", "nats_oneway", "all_stopped"}

// partitioned is how long a part of the network is lost: from less than the ack wait to longer than servers wait for their leader.
func partitioned(rng *rand.Rand) time.Duration {
	return ackWait/2 + time.Duration(rng.Int64N(int64(4*ackWait)))
}

// routes are the ways between the servers of the cluster: routes[i][j] is the one by which server i connects to server j.
type routes [nodes][nodes]*network.Way

func newRoutes(ports []int) (*routes, error) {
	var r routes
	for i := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			var err error
			if r[i][j], err = network.NewWay(address(ports[j])); err != nil {
				r.close()
				return nil, err
			}
		}
	}
	return &r, nil
}

// of is where a server finds the others.
func (r *routes) of(i int) string {
	var urls []string
	for j, w := range r[i] {
		if j != i {
			urls = append(urls, "nats://"+w.Address())
		}
	}
	return strings.Join(urls, ",")
}

// lose keeps what server i sends from reaching server j, whichever of the two has connected.
func (r *routes) lose(i, j int) {
	r[i][j].Lose(true, false)
	r[j][i].Lose(false, true)
}

func (r *routes) each(do func(*network.Way)) {
	for i := range nodes {
		for j := range nodes {
			if r[i][j] != nil {
				do(r[i][j])
			}
		}
	}
}

func (r *routes) close() { r.each((*network.Way).Close) }

func natsPartition(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	c, d := r.world.cluster, partitioned(rng)
	alone := rng.IntN(nodes + 1) // nodes: each of them
	for i := range nodes {
		for j := range nodes {
			if i != j && (i == alone || j == alone || alone == nodes) {
				c.routes.lose(i, j)
			}
		}
	}
	err := wait(ctx, d)
	c.routes.each((*network.Way).Restore)
	if alone == nodes {
		return fmt.Sprintf("each for %s", d), err
	}
	return fmt.Sprintf("%s for %s", c.nodes[alone].name, d), err
}

func natsOneWay(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	c, d, mute := r.world.cluster, partitioned(rng), rng.IntN(nodes)
	for j := range nodes {
		if j != mute {
			c.routes.lose(mute, j)
		}
	}
	err := wait(ctx, d)
	c.routes.each((*network.Way).Restore)
	return fmt.Sprintf("%s for %s", c.nodes[mute].name, d), err
}

// ways is one runner's network of its own.
type ways struct {
	database *network.Way
	nats     []*network.Way
}

// newWays makes the networks of the runners where a nemesis needs them: each costs another copy of all bytes.
func newWays(r *round) error {
	if !strings.Contains(r.names(), "way_") {
		return nil
	}
	for range runners {
		w := &ways{}
		r.ways = append(r.ways, w)
		var err error
		if w.database, err = network.NewWay(r.world.proxy.Address()); err != nil {
			return err
		}
		for _, n := range r.world.cluster.nodes {
			one, err := network.NewWay(n.link.Address())
			if err != nil {
				return err
			}
			w.nats = append(w.nats, one)
		}
	}
	return nil
}

// throughWays are the settings of a runner that has a network of its own.
func throughWays(r *round, i int) []string {
	if len(r.ways) == 0 {
		return nil
	}
	var urls []string
	for _, w := range r.ways[i].nats {
		urls = append(urls, "nats://"+w.Address())
	}
	connection := strings.Replace(r.linkedPostgres(), r.world.proxy.Address(), r.ways[i].database.Address(), 1)
	return []string{"SHOP_CONNECTION_STRING=" + connection, "RUNNER_NATS_URLS=" + strings.Join(urls, ",")}
}

func closeWays(r *round) {
	for _, w := range r.ways {
		for _, one := range append(toNATS(w), toDatabase(w)...) {
			one.Close()
		}
	}
}

func toDatabase(w *ways) []*network.Way {
	if w.database == nil {
		return nil
	}
	return []*network.Way{w.database}
}

func toNATS(w *ways) []*network.Way { return w.nats }

// wayLost loses one runner's ways to one side: both directions, or one of them.
func wayLost(side func(*ways) []*network.Way) func(context.Context, *round, *rand.Rand) (string, error) {
	return func(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
		i, d, how := rng.IntN(runners), partitioned(rng), rng.IntN(3)
		for _, w := range side(r.ways[i]) {
			w.Lose(how != 1, how != 2)
		}
		err := wait(ctx, d)
		for _, w := range side(r.ways[i]) {
			w.Restore()
		}
		return fmt.Sprintf("%s for %s, %s", r.fleet.all[i].name, d, [...]string{"both directions", "answers", "requests"}[how]), err
	}
}

func waySlow(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	d := partitioned(rng)
	set := func(delay time.Duration, loss float64) {
		for _, w := range r.ways {
			for _, one := range append(toDatabase(w), w.nats...) {
				one.Slow(delay, loss)
			}
		}
	}
	set(200*time.Millisecond, 0.05)
	err := wait(ctx, d)
	set(0, 0)
	return d.String(), err
}
