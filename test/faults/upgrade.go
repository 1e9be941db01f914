package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/test/faults/check"
	"dbrunner/test/faults/history"
)

// before is the commit that runners are upgraded from: the last one before that which is built.
const before = "HEAD~1"

// readyTime bounds how long a runner that was replaced may take to be ready before the next one is.
const readyTime = 20 * time.Second

// releaseNemeses are what comes with releases.
func releaseNemeses() []nemesis {
	return []nemesis{
		{"upgrade", "runners, one after the other, and the topology move from the release before to this one, or back", time.Second, upgrade},
	}
}

// prepareUpgrade builds the release before, which the runners of half of the seeds start with. Without the history of the repository nothing
// happens instead.
func prepareUpgrade(ctx context.Context, r *round) error {
	if !r.works("upgrade") {
		return nil
	}
	path, err := r.world.buildBefore(ctx, r.opts.before)
	var missing *history.MissingError
	if errors.As(err, &missing) && r.opts.before == before {
		progress("seed %d: the nemesis upgrade is skipped: %v", r.seed, missing)
		for i := range r.faults {
			if r.faults[i].name == "upgrade" {
				r.faults[i].nemesis = nemeses(false)[0]
			}
		}
		return nil
	}
	r.before = path
	return err
}

func (w *world) buildBefore(ctx context.Context, commit string) (path string, err error) {
	if path := w.binaries[before]; path != "" {
		return path, nil
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	if path, err = history.Build(ctx, root, commit, filepath.Join(w.dir, "before")); err == nil {
		w.binaries[before] = path
	}
	return path, err
}

// firstBinary is what the runners of a round start with.
func firstBinary(r *round) string {
	if r.before != "" && newRand(r.seed, 6).IntN(2) == 0 {
		return r.before
	}
	return r.binary
}

// upgrade replaces each runner by one of the other release, and applies the topology with its command: before, or afterwards.
func upgrade(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	binary, to := r.before, "to the release before"
	if r.fleet.all[0].runs(binary) {
		binary, to = r.binary, "to this release"
	}
	first, then := rollRunners, applyTopology
	if order := rng.IntN(2); order == 0 {
		first, then = applyTopology, rollRunners
	}
	one, err := first(ctx, r, rng, binary)
	two, errThen := then(ctx, r, rng, binary)
	return fmt.Sprintf("%s: %s, then %s", to, one, two), errors.Join(err, errThen)
}

// rollRunners terminates the runners, one after the other, and waits for each one's successor as an operator does.
func rollRunners(ctx context.Context, r *round, rng *rand.Rand, binary string) (note string, err error) {
	var names []string
	for _, i := range rng.Perm(len(r.fleet.all)) {
		m := r.fleet.all[i]
		names = append(names, m.name)
		earlier := heartbeatOf(ctx, r, m.name)
		m.replace(ctx, binary)
		err = errors.Join(err, eventually(ctx, readyTime, m.name+" is ready", func() bool {
			h := heartbeatOf(ctx, r, m.name)
			return h.RunnerState == contract.RunnerRunning && h.Process != earlier.Process
		}))
	}
	return strings.Join(names, ", "), err
}

// heartbeatOf is a runner's last heartbeat of the database shop; empty if there is none.
func heartbeatOf(ctx context.Context, r *round, name string) (last contract.DatabaseHeartbeat) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	list, err := r.client.DatabaseHeartbeats(ctx, shop)
	if err != nil {
		return last
	}
	for i := range list {
		if list[i].Instance == name {
			last = list[i]
		}
	}
	return last
}

// applyTopology applies the topology with a release's command, again while other faults keep it from that. One that never succeeds is
// a command that has ended badly.
func applyTopology(ctx context.Context, r *round, _ *rand.Rand, binary string) (note string, err error) {
	from, out := time.Now(), []byte(nil)
	err = eventually(ctx, settleTime, "the topology is applied", func() bool {
		cmd := exec.CommandContext(ctx, binary, "topology", "apply")
		cmd.Env = r.runnerEnvironment(r.world.cluster.urls())
		var failed error
		out, failed = cmd.CombinedOutput()
		return failed == nil
	})
	if err != nil && ctx.Err() == nil {
		r.fleet.mu.Lock()
		defer r.fleet.mu.Unlock()
		r.fleet.exits = append(r.fleet.exits, check.Exit{Runner: "topology apply: " + string(out), Took: time.Since(from), Grace: settleTime, Code: 1})
	}
	return "topology", err
}
