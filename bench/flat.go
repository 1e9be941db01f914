package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

const (
	longBacklog  = 1_000_000
	shortBacklog = 20_000
	manyFiles    = 50
	// filesBacklog is large enough for the opening of some hundred connections not to count.
	filesBacklog = 100_000
)

// measureFlat shows that cost does not grow with what waits.
func (w *world) measureFlat(ctx context.Context, r *report) error {
	r.Flat = map[string]float64{}
	k := &works()[0]
	for _, jobs := range []int{shortBacklog, longBacklog, shortBacklog} {
		s, err := w.drain(ctx, w.runner("stored"), k, jobs)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("backlog_%d_jobs_per_s", jobs)
		r.Flat[key] = max(r.Flat[key], figures.Round(s.Rate, 1))
		progress("backlog of %7d  %8.0f jobs/s  peak %.0f MB", jobs, s.Rate, figures.Megabytes(s.Peak))
	}
	return nil
}

// measureFiles shows that cost does not grow with the number of databases.
func (w *world) measureFiles(ctx context.Context, r *report) error {
	if r.Flat == nil {
		r.Flat = map[string]float64{}
	}
	for _, files := range []int{1, manyFiles, 1} {
		s, err := w.files(ctx, files, filesBacklog)
		if err != nil {
			return fmt.Errorf("%d databases: %w", files, err)
		}
		key := fmt.Sprintf("databases_%d_jobs_per_s", files)
		r.Flat[key] = max(r.Flat[key], figures.Round(s.Rate, 1))
		progress("%2d databases       %8.0f jobs/s", files, s.Rate)
	}
	return nil
}

// files drains one backlog that is spread over some SQLite databases of one runner.
func (w *world) files(ctx context.Context, count, jobs int) (s figures.Sample, err error) {
	databases := map[string]string{}
	// Streams reserve their limits with the server; fifty times the ordinary ones are more than it gives.
	env := []string{"RUNNER_TOPOLOGY_JOBS_MAX_BYTES=128MiB", "RUNNER_TOPOLOGY_RESULTS_MAX_BYTES=1GiB"}
	w.serial++
	for i := range count {
		name := fmt.Sprintf("f%dx%d", w.serial, i)
		if databases[name], err = createSQLite(ctx, w.dir, name+".db"); err != nil {
			return s, err
		}
		if count > 1 { // a hundred connections together, whose caches of pages are warm after a moment
			env = append(env, strings.ToUpper(name)+"_POOL_MAX=2", strings.ToUpper(name)+"_POOL_MIN=2")
		}
	}
	start := func(*work) (process.List, error) {
		return process.One(process.Start(w.runnerEnvironment(databases, env...), w.opts.runner, "serve"))
	}
	ps, err := start(nil)
	if err != nil {
		return s, err
	}
	for name := range databases {
		err = errors.Join(err, w.awaitLane(ctx, ps[0], name))
	}
	if err = errors.Join(err, ps.Stop()); err != nil {
		return s, err
	}
	return w.drainFiles(ctx, databases, jobs, start)
}

func (w *world) drainFiles(
	ctx context.Context, databases map[string]string, jobs int, start func(*work) (process.List, error),
) (s figures.Sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTime+time.Duration(jobs)*drainTimePerJob)
	defer cancel()
	k := &works()[4]
	names := make([]string, 0, len(databases))
	for name := range databases {
		names = append(names, name)
	}
	next := 0
	c := contender{mode: "stored", stored: true, start: start, subject: func(*work) string {
		next++
		return "dbrunner.jobs." + names[next%len(names)] + "." + k.kind
	}}
	a, sub, err := subscribe(w.nc, "dbrunner.results.*.*", newAnswers(k, jobs, jobs/10, 0))
	if err != nil {
		return s, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.publish(ctx, c, k, jobs); err != nil {
		return s, err
	}
	ps, err := start(k)
	if err != nil {
		return s, err
	}
	s, err = w.clock(ctx, ps, a)
	return s, errors.Join(err, ps.Stop())
}
