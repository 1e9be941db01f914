package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dbrunner/internal/db/dbtest"
	"dbrunner/test/faults/check"
)

// run does what the command line asks for.
func (o *options) run(ctx context.Context) error {
	if o.sqlserver == "" {
		progress("SQL Server takes no part: %s names none", dbtest.SQLServerVariable)
	}
	switch {
	case o.mutants || o.mutant != "":
		return o.inWorld(ctx, o.runMutants)
	case o.soak > 0:
		return o.inWorld(ctx, o.runSoak)
	}
	return o.runSeeds(ctx)
}

// inWorld starts the servers for what is done, and ends them.
func (o *options) inWorld(ctx context.Context, do func(context.Context, *world) error) error {
	w, err := newWorld(ctx, o.sync, o.sqlserver)
	if err != nil {
		return err
	}
	defer w.close()
	return do(ctx, w)
}

// seedRun is one run of the list, with its place there.
type seedRun struct {
	options
	serial int
}

// runSeeds runs the seeds, as many at a time as -parallel says, each of those on servers of its own.
func (o *options) runSeeds(ctx context.Context) error {
	rep, err := o.report()
	if err != nil {
		return err
	}
	runs := make(chan seedRun)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(runs)
		for i, one := range o.rounds() {
			if rep.has(one.seed) {
				continue
			}
			select {
			case runs <- seedRun{one, i + 1}:
			case <-groupCtx.Done():
				return groupCtx.Err()
			}
		}
		return nil
	})
	for range o.parallel {
		group.Go(func() error {
			return o.inWorld(groupCtx, func(ctx context.Context, w *world) error { return w.runSeeds(ctx, runs, rep) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	rep.print(os.Stdout)
	return rep.verdict()
}

// runSeeds runs seeds until there are no more, and adds each to the report.
func (w *world) runSeeds(ctx context.Context, runs <-chan seedRun, rep *report) error {
	for one := range runs {
		binary := one.runner
		var err error
		if binary == "" {
			if binary, err = w.build(ctx, "plain", ""); err != nil {
				return err
			}
		}
		s, err := w.runSeed(ctx, &one.options, binary, one.seed, one.serial)
		if err != nil {
			return fmt.Errorf("seed %d: %w", one.seed, err)
		}
		progress("%s", s)
		if err := rep.add(s, one.out); err != nil {
			return err
		}
	}
	return nil
}

// rounds are the options of each run.
func (o *options) rounds() []options {
	var list []options
	if o.quick {
		for i, only := range quickMixes {
			one := *o
			one.only, one.mix, one.seed = only, true, o.seed+uint64(i)
			one.jobs, one.length, one.drain = quickJobs, quickLength, quickDrain
			list = append(list, one)
		}
		return list
	}
	if o.recovery {
		for i, n := range nemeses(o.sqlserver != "") {
			if len(o.only) > 0 && !slices.Contains(o.only, n.name) {
				continue
			}
			one := *o
			one.only, one.seed = []string{n.name}, o.seed+uint64(i)
			one.jobs, one.length = recoveryRate*int(recoveryLength/time.Second), recoveryLength
			list = append(list, one)
		}
		return list
	}
	for i := range o.seeds {
		one := *o
		one.seed = o.seed + uint64(i)
		list = append(list, one)
	}
	return list
}

// A run that measures recovery has few jobs, so that none waits for others, and lets the effect of each fault end before the
// next one.
const (
	recoveryRate   = 40 // jobs a second
	recoveryLength = 60 * time.Second
	recoveryBound  = ackWait + 5*time.Second
	recoveryPause  = recoveryBound + time.Second
)

// The quick run is for every change, on busy machines: few jobs, and long time limits.
const (
	quickJobs   = 1200
	quickLength = 6 * time.Second
	quickDrain  = 3 * time.Minute
)

// quickMixes are the nemeses of each seed of the quick run.
var quickMixes = [][]string{
	{"runner_crash", "nats_stepdown", "pg_cut_after"},
	{"runner_stop", "pg_late_commit", "runner_term"},
	{"runner_kill", "nats_kill", "pg_restart"},
}

// runSeed runs one seed and checks it.
func (w *world) runSeed(ctx context.Context, o *options, binary string, seed uint64, serial int) (*summary, error) {
	r, err := w.newRound(ctx, o, binary, seed, serial)
	if r != nil {
		defer r.close(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := r.run(ctx); err != nil {
		return nil, errors.Join(err, r.lastWords())
	}
	found, err := r.judge(ctx)
	if err != nil {
		return nil, err
	}
	h, err := r.collect(ctx)
	if err != nil {
		return nil, err
	}
	s := summarize(r, h, time.Since(started))
	if o.verbose {
		r.latest(h)
	}
	s.Violations = append(check.Check(h), found...)
	if len(s.Violations) > 0 || o.keepAll {
		if s.kept, err = r.keep(o, h, s.Violations); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// latest reports which jobs were answered last.
func (r *round) latest(h *check.History) {
	publications := slices.Clone(h.Publications)
	slices.SortFunc(publications, func(a, b check.Publication) int { return b.Until.Compare(a.Until) })
	for i := range min(5, len(publications)) {
		p := &publications[i]
		progress("  published from %6.2fs to %6.2fs: %s, %t %s", p.From.Sub(r.started).Seconds(), p.Until.Sub(r.started).Seconds(), p.Request, p.Acked, p.Error)
	}
	list := slices.Clone(h.Stored)
	slices.SortFunc(list, func(a, b check.Answer) int { return b.At.Compare(a.At) })
	for i := range min(5, len(list)) {
		a := &list[i]
		progress("  answered at %6.2fs: %s, %s, delivery %d", a.At.Sub(r.started).Seconds(), a.Key, a.Result.Status, a.Result.Deliveries)
	}
}

// lastWords are the ends of the runners' logs, for a run that did not come to its end.
func (r *round) lastWords() error {
	var errs []error
	for _, m := range r.fleet.all {
		text, err := os.ReadFile(filepath.Join(r.dir, m.name+".log"))
		if err == nil {
			errs = append(errs, fmt.Errorf("%s: …%s", m.name, text[max(0, len(text)-1500):]))
		}
	}
	return errors.Join(errs...)
}
