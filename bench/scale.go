package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

// scaleOptions are the sizes up to which the part scale goes; 0: the full size, or a short one with -quick.
type scaleOptions struct {
	stages                                  string
	backlog, databases, runners, rate, jobs int
	time                                    time.Duration
}

const scaleStages = "backlog,databases,runners,replicas,soak"

func (o *scaleOptions) flags(flags *flag.FlagSet) {
	flags.StringVar(&o.stages, "scale", scaleStages, "stages of the part scale to run")
	flags.IntVar(&o.backlog, "scale-backlog", 0, "jobs of the long backlog (default 10000000; 200000 with -quick)")
	flags.IntVar(&o.databases, "scale-databases", 0, "databases in one runner (default 100; 20 with -quick)")
	flags.IntVar(&o.runners, "scale-runners", 0, "most runners on one database (default 16; 4 with -quick)")
	flags.IntVar(&o.jobs, "scale-jobs", 0, "backlog of the stages databases, runners and replicas (default 200000; 20000 with -quick)")
	flags.IntVar(&o.rate, "scale-rate", 0, "jobs in a second of the stage soak (default 1000)")
	flags.DurationVar(&o.time, "scale-time", 0, "how long the stage soak takes (default 1h; 30s with -quick)")
}

func (o *scaleOptions) fill(quick bool) {
	for _, f := range []struct {
		size        *int
		full, short int
	}{
		{&o.backlog, 10_000_000, 200_000},
		{&o.databases, 100, 20},
		{&o.runners, 16, 4},
		{&o.jobs, 200_000, 20_000},
		{&o.rate, 1000, 1000},
	} {
		switch {
		case *f.size > 0:
		case quick:
			*f.size = f.short
		default:
			*f.size = f.full
		}
	}
	if o.time > 0 {
		return
	}
	if o.time = time.Hour; quick {
		o.time = 30 * time.Second
	}
}

// scaleReport is what the part scale found.
type scaleReport struct {
	Sizes []figures.Scaled `json:"sizes"`
	Soak  []soak           `json:"soak,omitempty"`

	rows figures.Rows
}

func (r *scaleReport) print(out io.Writer) error {
	r.Sizes = r.rows.Scale()
	if err := figures.PrintScale(out, r.Sizes); err != nil {
		return err
	}
	for _, s := range r.Soak {
		_, _ = fmt.Fprintln(out, s)
	}
	return nil
}

// scale is the measurement of what happens when something grows.
type scale struct {
	*scaleReport
	options scaleOptions
	world   *world
	rounds  int
	jobs    int // backlog of those stages in which something else grows
}

// measureScale runs each stage that is wanted: in each, one thing grows, and the rest stays.
func (w *world) measureScale(ctx context.Context, r *report) error {
	r.Scale = &scaleReport{}
	s := &scale{scaleReport: r.Scale, options: w.opts.scale, world: w, rounds: w.opts.rounds, jobs: w.opts.scale.jobs}
	wanted := strings.Split(s.options.stages, ",")
	for _, name := range wanted {
		if !slices.Contains(strings.Split(scaleStages, ","), name) {
			return fmt.Errorf("there is no stage %q; stages are %s", name, scaleStages)
		}
	}
	for _, stage := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"backlog", s.backlog},
		{"databases", s.databases},
		{"runners", s.runners},
		{"replicas", s.replicas},
		{"soak", s.soak},
	} {
		if !slices.Contains(wanted, stage.name) {
			continue
		}
		if err := stage.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", stage.name, err)
		}
	}
	return nil
}

// add keeps what was measured of one size.
func (s *scale) add(stage, size string, jobs int, x figures.Sample) {
	s.rows.Add(stage, size, jobs, x)
	progress("%-10s  %-24s  %6.0f µs  %8.0f jobs/s  %.0f MB, then %.0f", stage, size, x.CPU(), x.Rate,
		figures.Megabytes(x.Begin), figures.Megabytes(x.End))
}

// works are those named by -works, or others.
func (s *scale) works(otherwise ...string) []work {
	return slices.DeleteFunc(works(), func(k work) bool {
		if s.world.opts.works != "" {
			return !slices.Contains(strings.Split(s.world.opts.works, ","), k.name)
		}
		return !slices.Contains(otherwise, k.name)
	})
}

// scaleBase is the backlog that the long one is compared with.
const scaleBase = 10_000

// backlog drains a long backlog between short ones, which are over in a second: several rounds on each side.
func (s *scale) backlog(ctx context.Context) error {
	for _, k := range s.works("a") {
		short := slices.Repeat([]int{scaleBase}, max(s.rounds, 3))
		for _, jobs := range slices.Concat(short, []int{s.options.backlog}, short) {
			x, err := s.world.drain(ctx, s.world.runner(k.modes()[0]), &k, jobs)
			if err != nil {
				return fmt.Errorf("%d jobs: %w", jobs, err)
			}
			s.add("backlog "+k.name, fmt.Sprintf("%d jobs", jobs), jobs, x)
		}
	}
	return nil
}

// databases drains the same backlog from one SQLite database and from many.
func (s *scale) databases(ctx context.Context) error {
	for range s.rounds {
		for _, count := range []int{1, s.options.databases} {
			x, err := s.world.files(ctx, count, s.jobs)
			if err != nil {
				return fmt.Errorf("%d databases: %w", count, err)
			}
			s.add("databases", fmt.Sprintf("%d files", count), s.jobs, x)
		}
	}
	return nil
}

// runners drains the same backlog by 1, 2, 4, … runners.
func (s *scale) runners(ctx context.Context) error {
	for range s.rounds {
		for _, k := range s.works("b") {
			for count := 1; count <= s.options.runners; count *= 2 {
				x, err := s.world.drain(ctx, s.fleet(k.modes()[0], count), &k, s.jobs)
				if err != nil {
					return fmt.Errorf("%d runners: %w", count, err)
				}
				s.add("runners "+k.name, fmt.Sprintf("%d runners", count), s.jobs, x)
			}
		}
	}
	return nil
}

// fleet is runners that share a database. The clock starts when each of them has answered a job.
func (s *scale) fleet(mode string, count int) contender {
	c := s.world.runner(mode)
	c.runners = count
	c.start = func(k *work) (ps process.List, err error) {
		for range count {
			p, err := s.world.startRunner(k.engine)
			if err != nil {
				return nil, errors.Join(err, ps.Stop())
			}
			ps = append(ps, p)
		}
		return ps, nil
	}
	return c
}

// replicas drains the same backlog with the streams on one server and on each of three.
func (s *scale) replicas(ctx context.Context) error {
	list := s.works("b", "c")
	cluster, err := s.cluster(ctx)
	if err != nil {
		return err
	}
	defer cluster.leave()
	for _, engine := range []string{"postgres", "sqlite"} {
		if err := cluster.prepareRunner(ctx, engine); err != nil {
			return err
		}
	}
	for range s.rounds {
		for _, k := range list {
			for _, w := range []*world{s.world, cluster} {
				jobs := s.jobs
				if k.kind == "transaction" {
					jobs /= 5
				}
				x, err := w.drain(ctx, w.runner(k.modes()[0]), &k, jobs)
				if err != nil {
					return fmt.Errorf("work %s, R%d: %w", k.name, len(w.nats), err)
				}
				s.add("replicas "+k.name, fmt.Sprintf("R%d, servers: %d", len(w.nats), len(w.nats)), jobs, x)
			}
		}
	}
	return nil
}

// cluster is the same world with three NATS servers of its own, which each have all streams.
func (s *scale) cluster(ctx context.Context) (*world, error) {
	w := *s.world
	w.opts.environment = append(slices.Clone(w.opts.environment), fmt.Sprintf("RUNNER_TOPOLOGY_REPLICAS=%d", clusterServers))
	started, err := startCluster(w.dir)
	if err != nil {
		return nil, err
	}
	w.servers, err = serve(ctx, started)
	return &w, err
}

// soak is what jobs at a fixed rate took.
type soak struct {
	Work    string  `json:"work"`
	Rate    int     `json:"jobs_per_s"`
	Seconds float64 `json:"seconds"`
	latency
	Late  float64 `json:"published_late_ms"` // the most
	CPU   float64 `json:"all_cpu_us_per_job"`
	Begin float64 `json:"begin_mb"`
	End   float64 `json:"end_mb"`
	Peak  float64 `json:"peak_mb"`
}

func (s soak) String() string {
	return fmt.Sprintf("soak %s  %d jobs/s for %.0f s  p50 %.2f ms  p99 %.2f  p99.9 %.2f  longest %.2f  published late by %.2f at most  %.0f µs/job  %.0f MB, then %.0f, peak %.0f",
		s.Work, s.Rate, s.Seconds, s.P50, s.P99, s.P999, s.Max, s.Late, s.CPU, s.Begin, s.End, s.Peak)
}

// soak publishes jobs at a fixed rate for a long time.
func (s *scale) soak(ctx context.Context) error {
	for _, k := range s.works("b") {
		jobs := int(s.options.time.Seconds() * float64(s.options.rate))
		o, err := s.world.openLoop(ctx, s.world.runner(k.modes()[0]), &k, s.options.rate, jobs)
		if err != nil {
			return err
		}
		one := soak{
			Work: k.name, Rate: s.options.rate, Seconds: s.options.time.Seconds(), latency: percentiles(o.took),
			Late: figures.Round(float64(o.late.Microseconds())/1000, 1000), CPU: figures.Round(o.sample.CPU(), 10),
			Begin: figures.Megabytes(o.sample.Begin), End: figures.Megabytes(o.sample.End), Peak: figures.Megabytes(o.sample.Peak),
		}
		s.Soak = append(s.Soak, one)
		progress("%s", one)
	}
	return nil
}
