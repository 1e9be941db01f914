package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"
)

// machineNemeses are the faults of the machine that everything runs on.
func machineNemeses() []nemesis {
	return []nemesis{
		{
			"all_stopped", "everything is stopped where it is (SIGSTOP) for longer than the ack wait, as a suspended machine is, and goes on in any order",
			2 * time.Second, allStopped,
		},
	}
}

// suspended is how long everything is stopped: longer than the ack wait, and a minute in a run of five.
func suspended(r *round) time.Duration { return max(ackWait*3/2, r.opts.length/5) }

// allStopped stops every process but this one, and lets them go on one after the other.
func allStopped(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	var signals []func(syscall.Signal) error
	for _, n := range r.world.cluster.nodes {
		signals = append(signals, signaling(n.process()))
	}
	for _, m := range r.fleet.all {
		if p := m.process(ctx); p != nil {
			signals = append(signals, signaling(p))
		}
	}
	signals = append(signals, r.world.postgres.Signal)
	var err error
	for _, signal := range signals {
		err = errors.Join(err, signal(syscall.SIGSTOP))
	}
	d := suspended(r)
	_ = wait(ctx, d)
	rng.Shuffle(len(signals), func(i, j int) { signals[i], signals[j] = signals[j], signals[i] })
	for _, signal := range signals {
		err = errors.Join(err, signal(syscall.SIGCONT))
		_ = wait(ctx, time.Duration(rng.Int64N(int64(ackWait/4))))
	}
	return d.String(), errors.Join(err, r.world.cluster.whole(ctx))
}

func signaling(p *process) func(syscall.Signal) error {
	return func(s syscall.Signal) error { p.signal(s); return nil }
}
