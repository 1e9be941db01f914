package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

// options are the flags.
type options struct {
	quick                             bool
	rounds                            int
	runner, out, page, profiles, only string
	works                             string
	environment                       []string // of the runner, besides what it always gets
	scale                             scaleOptions
}

// has reports whether a part is wanted.
func (o *options) has(part string) bool {
	if o.only != "" {
		return slices.Contains(strings.Split(o.only, ","), part)
	}
	long := []string{"flat", "files", "sizes", "large"}
	return part != "scale" && (!o.quick || !slices.Contains(long, part)) // scale takes hours
}

// limit is how many jobs and results of a database the streams hold: more than any part needs.
func (o *options) limit() int {
	limit := 2_000_000
	if o.has("scale") {
		limit = max(limit, 2*o.scale.backlog, 2*o.scale.jobs, 2*o.scale.rate*int(o.scale.time.Seconds()))
	}
	return limit
}

// size is the backlog of a work.
func (o *options) size(w *work) int {
	if o.quick {
		return w.jobs / 8
	}
	return w.jobs
}

func (o *options) wanted() []work {
	return slices.DeleteFunc(works(), func(w work) bool {
		return o.works != "" && !slices.Contains(strings.Split(o.works, ","), w.name)
	})
}

func orchestrate(ctx context.Context, o options) error {
	if _, err := os.Stat(o.runner); err != nil {
		return fmt.Errorf("the runner is not built: %w", err)
	}
	load, err := figures.Load(ctx)
	if err != nil {
		return err
	}
	if err := figures.CheckLoad(load); err != nil && o.out != "" && o.profiles == "" {
		return err
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	engines := []string{"postgres", "sqlite"}
	if hasSQLServer() {
		engines = append(engines, sqlserver)
	}
	for _, engine := range engines {
		if err := w.prepareRunner(ctx, engine); err != nil {
			return err
		}
	}
	if o.profiles != "" {
		return w.profile(ctx)
	}
	r := newReport(ctx, w)
	r.Load = load
	for _, part := range []struct {
		name string
		run  func(context.Context, *report) error
	}{
		{"memory", w.measureMemory},
		{"rounds", w.measureRounds},
		{"latency", w.measureLatency},
		{"allocations", w.measureAllocations},
		{"flat", w.measureFlat},
		{"files", w.measureFiles},
		{"sizes", w.measureSizes},
		{"large", w.measureLarge},
		{"scale", w.measureScale},
	} {
		if !o.has(part.name) {
			continue
		}
		if err := part.run(ctx, r); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", part.name, err), r.print(os.Stdout))
		}
	}
	if err := r.print(os.Stdout); err != nil {
		return err
	}
	return r.write(o.out, o.page)
}

// measureRounds drains one backlog of each work by each contender, round after round. Contenders change places from
// round to round. After the rounds asked for, those works have more whose bare loop varied too much.
func (w *world) measureRounds(ctx context.Context, r *report) error {
	list := w.opts.wanted()
	for round := range w.opts.rounds + figures.MoreRounds {
		for i := range list {
			k := &list[i]
			if round >= w.opts.rounds && r.Rows.Quiet(k.name, w.opts.rounds) {
				continue
			}
			if err := w.round(ctx, r, k, round); err != nil {
				return err
			}
		}
	}
	r.Rows.Keep(w.opts.rounds)
	return nil
}

func (w *world) round(ctx context.Context, r *report, k *work, round int) error {
	contenders := []contender{w.bare()}
	for _, mode := range k.modes() {
		contenders = append(contenders, w.runner(mode))
	}
	if k.name == "a" {
		contenders = append(contenders, w.bareJetStream())
	}
	shift := round % len(contenders)
	contenders = append(contenders[shift:], contenders[:shift]...)
	for _, c := range contenders {
		s, err := w.drain(ctx, c, k, w.opts.size(k))
		if err != nil {
			return fmt.Errorf("work %s, %s: %w", k.name, c.mode, err)
		}
		progress("round %d  %-8s  %-13s  %6.0f µs  %8.0f jobs/s", round+1, k.name, c.mode, s.CPU(), s.Rate)
		r.add(k.name, c.mode, s)
	}
	if k.engine != "postgres" {
		return nil
	}
	rate, err := w.rawRate(k)
	if err == nil {
		progress("round %d  %-8s  %-13s  %8.0f jobs/s", round+1, k.name, "raw-pgx", rate)
		r.add(k.name, "raw-pgx", figures.Sample{Rate: rate})
	}
	return err
}

func (w *world) rawRate(k *work) (float64, error) {
	span := 2 * time.Second
	if w.opts.quick {
		span = time.Second / 2
	}
	p, err := process.StartRole("raw-pgx", "-database", w.databaseURL(), "-work", k.name, "-span", span.String())
	if err != nil {
		return 0, err
	}
	text, err := p.Line()
	if err != nil {
		return 0, errors.Join(err, p.Stop())
	}
	rate, err := strconv.ParseFloat(text, 64)
	p.Wait()
	return rate, errors.Join(err, p.Stop())
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
