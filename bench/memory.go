package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

// allocationsPerJob of the runner's process, between the same marks as the clock of a backlog.
type allocationsPerJob struct {
	Count float64 `json:"count"`
	Bytes float64 `json:"bytes"`
}

// measureMemory reads what a runner holds that has nothing to do, connections open.
func (w *world) measureMemory(ctx context.Context, r *report) error {
	p, err := w.startRunner("postgres")
	if err != nil {
		return err
	}
	wait(ctx, 3*time.Second)
	r.Memory = map[string]float64{"idle_mb": figures.Megabytes(p.Memory("VmRSS")), "idle_own_mb": figures.Megabytes(p.Memory("RssAnon"))}
	progress("idle memory %.1f MB, of which %.1f are its own", r.Memory["idle_mb"], r.Memory["idle_own_mb"])
	return p.Stop()
}

// measureAllocations drains a short backlog of each work by the runner inside this program.
func (w *world) measureAllocations(ctx context.Context, r *report) error {
	r.Allocations = map[string]allocationsPerJob{}
	list := w.opts.wanted()
	for i := range list {
		k := &list[i]
		for _, mode := range k.modes() {
			per, err := w.inspect(ctx, w.runner(mode), k, min(5_000, k.jobs/8), "")
			if err != nil {
				return fmt.Errorf("work %s, %s: %w", k.name, mode, err)
			}
			r.Allocations[k.name+"/"+mode] = per
			progress("allocations  %-8s  %-13s  %6.0f, %7.0f bytes a job", k.name, mode, per.Count, per.Bytes)
		}
	}
	return nil
}

// inspect drains a backlog by a role of this program that has marks: the runner's inside, or the bare worker.
func (w *world) inspect(ctx context.Context, c contender, k *work, jobs int, profile string) (allocationsPerJob, error) {
	var span allocationsPerJob
	if err := w.reset(ctx, k.engine); err != nil {
		return span, err
	}
	w.serial++
	a, sub, err := subscribe(w.nc, w.subjects(c, k), newAnswers(k, jobs, jobs/10, 0))
	if err != nil {
		return span, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.publish(ctx, c, k, jobs); err != nil {
		return span, err
	}
	p, err := w.startInspected(c, k, profile)
	if err != nil {
		return span, err
	}
	marked := []*process.Process{p}
	if profile != "" {
		marked = append(marked, w.nats...)
	}
	span, err = between(ctx, p, marked, a)
	return span, errors.Join(err, p.Stop())
}

func (w *world) startInspected(c contender, k *work, profile string) (*process.Process, error) {
	var args []string
	if profile != "" {
		args = append(args, "-cpuprofile", profile)
	}
	if c.mode == "bare" {
		return process.StartRole("bare", append(args, "-nats", w.url, "-stream", bareStream, "-engine", k.engine,
			"-database", w.target(k.engine))...)
	}
	return process.StartRoleWith(w.runnerEnvironment(map[string]string{k.engine: w.target(k.engine)}, w.opts.environment...), "runner", args...)
}

// between marks the processes at the start and at the end of the clock.
func between(ctx context.Context, p *process.Process, marked []*process.Process, a *answers) (allocationsPerJob, error) {
	var text string
	for _, moment := range []<-chan struct{}{a.started, a.ended} {
		if err := p.Await(ctx, moment); err != nil {
			return allocationsPerJob{}, errors.Join(err, a.failure())
		}
		for i, m := range marked {
			line, err := m.Mark()
			if err != nil {
				return allocationsPerJob{}, err
			}
			if i == 0 {
				text = line
			}
		}
	}
	var span allocations
	err := json.Unmarshal([]byte(text), &span)
	jobs := float64(a.total - a.warm)
	return allocationsPerJob{
		Count: figures.Round(float64(span.Count)/jobs, 10), Bytes: figures.Round(float64(span.Bytes)/jobs, 1),
	}, errors.Join(err, a.failure())
}
